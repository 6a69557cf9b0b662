"""How the combined update is applied: state in, state out.

Δ is the combined change of the hospitals' models (a step downhill, the negative of a pseudo-gradient). Tensors that do
not take part (counters, layers that stay home) keep the server's value. Moments are named tensors in the state, saved
with every checkpoint.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from strategies.errors import PartError
from strategies.types import Tensor, Tensors

Moments = Mapping[str, Tensors]


class ServerOpt(Protocol):
    def step(self, moments: Moments, model: Tensors, delta: Tensors) -> tuple[Moments, Tensors]:
        """The moments and the model after applying Δ. Empty moments start a run."""


@dataclass(frozen=True)
class Sgd:
    """x ← x + η·Δ. With η = 1 a round is plain FedAvg (McMahan et al. 2017, alg. 1)."""

    lr: float = 1.0

    def __post_init__(self) -> None:
        positive("sgd", lr=self.lr)

    def step(self, moments: Moments, model: Tensors, delta: Tensors) -> tuple[Moments, Tensors]:
        return moments, moved(model, delta, self.lr)


def moved(model: Tensors, direction: Mapping[str, Tensor], lr: float) -> Tensors:
    """Move x by lr·direction where there is a direction; elsewhere x itself. Dtypes are the model's."""
    return {name: _add(tensor, direction[name], lr) if name in direction else tensor for name, tensor in model.items()}


def _add(tensor: Tensor, direction: Tensor, lr: float) -> Tensor:
    step = direction if lr == 1.0 else direction * direction.dtype.type(lr)
    return np.asarray(tensor + step, dtype=tensor.dtype)


def positive(part: str, **settings: float) -> None:
    """Refuse settings that are not finite numbers > 0, by name."""
    for name, value in settings.items():
        if not (math.isfinite(value) and value > 0):
            raise PartError(f"server_opt {part}: {name} is a finite number > 0, got {value}")
