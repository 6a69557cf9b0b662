"""SCAFFOLD, option II: control variates take out the drift of local training.

    y ← y − η·(g(y) − c_k + c)                      every step, K in all, plain SGD
    c_k⁺ = c_k − c + (x − y) / (K·η)                after the last; stays in the hospital
    Δc_k = c_k⁺ − c_k                               travels; the server adds |S|/N · mean Δc_k to c

The method needs plain SGD (no momentum, no adaptive step: (x − y)/(K·η) would not be a mean gradient), so it brings
its own optimiser. Tensors that stay home are not corrected.

It ends at the optimum only where c is the mean of the c_k: an error in c once is one for good. So the c_k that a
hospital begins with is that of its last update which the server took (`Plan.taken`), whatever was lost since. One that
has lost it declines, and all begin anew with c = c_k = 0: one round is then as without correction.

Source: Karimireddy et al. 2020, "SCAFFOLD: Stochastic controlled averaging for federated learning", alg. 1. The paper
averages with equal weights; others apply to updates and control variates alike. A weight that changes from round to
round (by score) stays in c what it was at first: sums of changes cannot be weighed anew. Then the end is the optimum
for the first weights.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

import numpy as np

from strategies.errors import PartError
from strategies.local import NOTHING, Learned, like_parameter
from strategies.types import Plan, Tensor

if TYPE_CHECKING:
    import torch
    from torch import nn, optim


@dataclass(frozen=True)
class Drift:
    """What a round needs to remember of its beginning, by parameter name."""

    start: Mapping[str, "torch.Tensor"]
    correction: Mapping[str, "torch.Tensor"]
    """c − c_k, added to every gradient."""
    control: Mapping[str, Tensor]
    """c, as the server sent it."""


@dataclass(frozen=True)
class Scaffold:
    """`lr`: the learning rate of its SGD; None takes the configured one, which was chosen for another optimiser."""

    lr: float | None = None
    uses_control = True
    personal = None

    def __post_init__(self) -> None:
        if self.lr is not None and not (math.isfinite(self.lr) and self.lr > 0):
            raise PartError(f"local scaffold: lr is a finite number > 0, or null for training.lr; got {self.lr}")

    def strength(self, losses: Sequence[float]) -> float:
        return math.nan

    def at(self, plan: Plan) -> Self:
        return self if self.lr is None else replace(self, lr=self.lr * plan.lr_scale)

    def optimiser(self, parameters: Iterable["nn.Parameter"], lr: float) -> "optim.Optimizer":
        from torch import optim

        return optim.SGD(parameters, lr=self.lr or lr)

    def start(
        self, model: "nn.Module", control: Mapping[str, Tensor] = NOTHING, kept: Mapping[str, Tensor] = NOTHING
    ) -> Drift:
        named = {name: p for name, p in model.named_parameters() if p.requires_grad and name in control}
        start = {name: p.detach().clone() for name, p in named.items()}
        correction = {name: like_parameter(control[name] - kept.get(name, 0.0), p) for name, p in named.items()}
        return Drift(start, correction, control)

    def correct(self, model: "nn.Module", state: Drift) -> None:
        for name, parameter in model.named_parameters():
            if parameter.grad is not None and name in state.correction:
                parameter.grad.add_(state.correction[name])

    def finish(self, model: "nn.Module", state: Drift, *, steps: int, lr: float) -> Learned:
        """Δc_k = (x − y)/(K·η) − c travels; c_k⁺ = (x − y)/(K·η) − (c − c_k) is kept."""
        end = dict(model.named_parameters())
        delta, kept = {}, {}
        for name, begin in state.start.items():
            if steps:
                mean_gradient = (begin - end[name].detach()) / (steps * (self.lr or lr))
                delta[name] = mean_gradient.cpu().numpy() - state.control[name]
                kept[name] = (mean_gradient - state.correction[name]).cpu().numpy()
            else:
                delta[name] = np.zeros_like(state.control[name])
                kept[name] = state.control[name] - state.correction[name].cpu().numpy()
        return Learned(delta, kept)
