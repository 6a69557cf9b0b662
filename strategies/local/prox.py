"""FedProx: local training is pulled back to the model it started from.

    h_k(w) = F_k(w) + μ/2 · ‖w − w^t‖²          gradient: ∇F_k(w) + μ·(w − w^t)

Adaptive variant: μ starts as configured, grows by `step` in every round after the mean training loss rose, and
shrinks by `step` (not below 0) after it fell `patience` rounds in a row. The server computes it from the losses
reported so far and sends it in the plan, so that a resumed run continues with the same μ.

Source: Li et al. 2020, "Federated optimization in heterogeneous networks", eq. 2 and alg. 2; adaptive μ: § 5.3.2, with
the hospitals' weighted training loss in the place of the global one.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Literal, Self

from strategies.errors import PartError
from strategies.local import NOTHING, Learned, like_parameter
from strategies.types import Plan, Tensor

if TYPE_CHECKING:
    import torch
    from torch import nn, optim

    Anchors = list[tuple[nn.Parameter, torch.Tensor]]


@dataclass(frozen=True)
class Prox:
    """`mu` is in units of 1 / (learning rate · steps): a pull of 1/(lr·steps) undoes about what a round drifts.

    `anchor`: what the pull goes to, the model at the "start" of training, or tensors given as "control" (Ditto).
    """

    mu: float = 0.01
    anchor: Literal["start", "control"] = "start"
    adaptive: bool = False
    step: float = 0.1
    patience: int = 5
    uses_control = False
    personal = None

    def __post_init__(self) -> None:
        if not (math.isfinite(self.mu) and self.mu >= 0):
            raise PartError(f"local prox: mu is a finite number ≥ 0, got {self.mu}")
        if self.anchor not in ("start", "control"):
            raise PartError(f"local prox: anchor is 'start' or 'control', got {self.anchor!r}")
        if self.adaptive and not (self.step > 0 and self.patience >= 1):
            raise PartError(f"local prox: adaptive needs step > 0 and patience ≥ 1, got {self.step}, {self.patience}")

    def strength(self, losses: Sequence[float]) -> float:
        """μ after these mean training losses, one a round; NaN where μ is not adaptive."""
        if not self.adaptive:
            return math.nan
        mu, falls = self.mu, 0
        for before, now in pairwise(losses):
            falls = falls + 1 if now < before else 0
            if now > before:
                mu += self.step
            elif falls == self.patience:
                mu, falls = max(0.0, mu - self.step), 0
        return mu

    def at(self, plan: Plan) -> Self:
        return self if math.isnan(plan.strength) else replace(self, mu=plan.strength)

    def optimiser(self, parameters: Iterable["nn.Parameter"], lr: float) -> "optim.Optimizer | None":
        return None

    def start(
        self, model: "nn.Module", control: Mapping[str, Tensor] = NOTHING, kept: Mapping[str, Tensor] = NOTHING
    ) -> "Anchors":
        trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
        if self.anchor == "start":
            return [(p, p.detach().clone()) for p in trained.values()]
        return [(p, like_parameter(control[name], p)) for name, p in trained.items() if name in control]

    def correct(self, model: "nn.Module", state: "Anchors") -> None:
        for parameter, anchor in state:
            if parameter.grad is not None:
                # subtracted first: μ·w and μ·w^t apart would cancel away the small difference between them
                parameter.grad.add_(parameter.detach() - anchor, alpha=self.mu)

    def finish(self, model: "nn.Module", state: "Anchors", *, steps: int, lr: float) -> Learned:
        return Learned()
