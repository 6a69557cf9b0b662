"""Local training as configured: nothing added. FedAvg's local half (McMahan et al. 2017, alg. 1, ClientUpdate).

With a `personal` part each hospital also trains a model of its own, which never leaves it. That is Ditto where the
personal part is a pull towards the received global model:

    h_k(v) = F_k(v) + λ/2 · ‖v − w^t‖²          Plain(personal=Prox(mu=λ, anchor="control"))

The application trains both: the global model with this part, then the hospital's own with `personal`, whose `start`
is given the received tensors as `control`.

Source: Li, Hu, Beirami, Smith 2021, "Ditto: Fair and robust federated learning through personalization", alg. 1.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from strategies.local import NOTHING, Learned, Local
from strategies.types import Plan, Tensor

if TYPE_CHECKING:
    from torch import nn, optim


@dataclass(frozen=True)
class Plain:
    personal: Local | None = None
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
