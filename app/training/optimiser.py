"""AdamW and SGD over torch's own functions: the same kernels as `torch.optim`'s classes, bit for bit.

Those classes bring torch's compiler (`torch._dynamo`: 800 modules, 70 MB, more than a second) into every process with
the first parameter they are given. A process that compiles nothing is spared that here.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw
from torch.optim.sgd import sgd

BETAS = (0.9, 0.999)
EPS = 1e-8


class Optimiser(Protocol):
    """What a training loop asks of it; `torch.optim`'s own do, too."""

    def zero_grad(self) -> None:
        """Forget the gradients."""

    def step(self) -> Any:
        """Move the parameters by their gradients."""


@dataclass
class _Moments:
    """Of one parameter."""

    mean: Tensor
    square: Tensor
    steps: Tensor

    @classmethod
    def of(cls, parameter: Tensor) -> "_Moments":
        return cls(torch.zeros_like(parameter), torch.zeros_like(parameter), torch.zeros((), device=parameter.device))


@dataclass(eq=False)
class _Parameters:
    """Those that are trained. One without a gradient is left as it is."""

    parameters: Sequence[nn.Parameter]
    lr: float
    weight_decay: float = 0.0

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for parameter in self.parameters:
            parameter.grad = None

    def _moving(self) -> tuple[list[Tensor], list[Tensor]]:
        """Parameters and their gradients."""
        moving = [(p, p.grad) for p in self.parameters if p.grad is not None]
        return [p for p, _ in moving], [grad for _, grad in moving]


@dataclass(eq=False)
class AdamW(_Parameters):
    """Adam with decoupled weight decay (arXiv:1711.05101)."""

    _moments: dict[Tensor, _Moments] = field(default_factory=dict)

    @torch.no_grad()
    def step(self) -> None:
        """Move the parameters by their gradients."""
        moving, grads = self._moving()
        moments = [self._moments_of(p) for p in moving]
        adamw(
            moving,
            grads,
            [m.mean for m in moments],
            [m.square for m in moments],
            [],
            [m.steps for m in moments],
            fused=True,
            amsgrad=False,
            beta1=BETAS[0],
            beta2=BETAS[1],
            lr=self.lr,
            weight_decay=self.weight_decay,
            eps=EPS,
            maximize=False,
        )

    def _moments_of(self, parameter: Tensor) -> _Moments:
        if parameter not in self._moments:
            self._moments[parameter] = _Moments.of(parameter)
        return self._moments[parameter]


@dataclass(eq=False)
class SGD(_Parameters):
    """Gradient descent, with an L2 term and heavy-ball momentum as torch has them."""

    momentum: float = 0.0
    _velocity: dict[Tensor, Tensor | None] = field(default_factory=dict)

    @torch.no_grad()
    def step(self) -> None:
        """Move the parameters by their gradients."""
        moving, grads = self._moving()
        velocity = [self._velocity.get(p) for p in moving]
        sgd(
            moving,
            grads,
            velocity,
            fused=True,
            weight_decay=self.weight_decay,
            momentum=self.momentum,
            lr=self.lr,
            dampening=0.0,
            nesterov=False,
            maximize=False,
        )
        self._velocity = dict(zip(moving, velocity, strict=True))
