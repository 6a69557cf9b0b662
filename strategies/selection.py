"""Who is asked in a round: a function of the seed, the round and what is known of the hospitals, nothing else.

A resumed run therefore asks the same hospitals as the undisturbed one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from strategies.attendance import Seen


class Selection(Protocol):
    def select(
        self, available: Sequence[str], *, seed: int, round: int, seen: Mapping[str, Seen], quorum: int
    ) -> tuple[str, ...]:
        """Choose among the available hospitals (sorted by name); at least `quorum` of them where there are so many."""


@dataclass(frozen=True)
class All:
    """Everybody who is there."""

    def select(
        self, available: Sequence[str], *, seed: int, round: int, seen: Mapping[str, Seen], quorum: int
    ) -> tuple[str, ...]:
        return tuple(available)
