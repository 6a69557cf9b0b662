"""What leaves a hospital: which of the model's tensors travel, and which local training may change.

Tensors are chosen by kind, and the kind comes from the type of the module that owns the tensor (conv, linear, norm,
norm-statistic, counter, other), never from its name.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol


class Sharing(Protocol):
    """`kinds` maps every tensor of the model to its kind, in the model's order."""

    def shared(self, kinds: Mapping[str, str]) -> tuple[str, ...]:
        """Names of the tensors that travel, in the model's order. The others stay in each hospital."""

    def trained(self, kinds: Mapping[str, str]) -> tuple[str, ...]:
        """Names of the tensors that local training may change."""


@dataclass(frozen=True)
class All:
    """Everything travels, everything is trained."""

    def shared(self, kinds: Mapping[str, str]) -> tuple[str, ...]:
        return tuple(kinds)

    def trained(self, kinds: Mapping[str, str]) -> tuple[str, ...]:
        return tuple(kinds)
