"""How the hospitals' updates become one.

A part opens a `Fold` for a round; updates are added one at a time, in the order in which they come, and may be dropped
by the caller afterwards where the mathematics allows it (the mean); robust rules have to keep them until the end.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, Self

from strategies.types import Tensor, Tensors


@dataclass(frozen=True)
class Combined:
    """The combined update and the normalised weights really used, by hospital."""

    delta: Tensors
    """The receiver's own: no hospital's update, and nobody else's memory."""
    weights: Mapping[str, float]


class Fold(Protocol):
    """The running combination of one round."""

    def add(self, hospital: str, delta: Mapping[str, Tensor], factor: float, norm: float | None = None) -> None:
        """Take one update in; an empty delta is an update of zeros.

        `norm`, where given, is the update's L2 norm as its hospital states it. Raises Misstated where it is not that,
        BadFactor for a factor that is no finite number ≥ 0; the fold is then as it was, to rounding.
        """

    def merge(self, other: Self) -> None:
        """Take in what another fold of the same round has seen."""

    def combine(self) -> Combined:
        """Finish. Raises NoWeight where all factors are zero."""


class Aggregate(Protocol):
    @property
    def needs_individual(self) -> bool:
        """Whether single updates must be visible to the server (not so under secure aggregation)."""

    @property
    def least(self) -> int:
        """How many updates the rule needs to mean anything; a round with fewer fails its quorum."""

    def begin(self, like: Mapping[str, Tensor]) -> Fold:
        """Open a fold for updates in the names, shapes and dtypes of `like`."""
