"""Local training as configured: nothing added. FedAvg's local half (McMahan et al. 2017, alg. 1, ClientUpdate)."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from strategies.local import Learned
from strategies.types import Plan, Tensor

if TYPE_CHECKING:
    from torch import nn, optim

NOTHING: Mapping[str, Tensor] = {}


@dataclass(frozen=True)
class Plain:
    uses_control = False

    def strength(self, losses: Sequence[float]) -> float:
        return math.nan

    def at(self, plan: Plan) -> Self:
        return self

    def optimiser(self, parameters: Iterable["nn.Parameter"], lr: float) -> "optim.Optimizer | None":
        return None

    def start(
        self, model: "nn.Module", control: Mapping[str, Tensor] = NOTHING, kept: Mapping[str, Tensor] = NOTHING
    ) -> None:
        return None

    def correct(self, model: "nn.Module", state: None) -> None:
        return None

    def finish(self, model: "nn.Module", state: None, *, steps: int, lr: float) -> Learned:
        return Learned()
