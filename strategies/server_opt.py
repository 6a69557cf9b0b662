"""How the combined update is applied: state in, state out.

Δ is the combined change of the hospitals' models (a step downhill, the negative of a pseudo-gradient). Tensors that do
not take part (counters, layers that stay home) keep the server's value. Moments are named tensors in the state, saved
with every checkpoint.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

from strategies.errors import PartError
from strategies.types import Tensor, Tensors

Moments = Mapping[str, Tensors]


class ServerOpt(Protocol):
    def step(self, moments: Moments, model: Tensors, delta: Tensors) -> tuple[Moments, Tensors]:
        """The moments and the model after applying Δ. Empty moments start a run.

        Δ is used up: the new model is made in its memory. Moments and model are left as they are.
        """


@dataclass(frozen=True)
class Sgd:
    """x ← x + η·Δ. With η = 1 a round is plain FedAvg (McMahan et al. 2017, alg. 1)."""

    lr: float = 1.0

    def __post_init__(self) -> None:
        positive("sgd", lr=self.lr)

    def step(self, moments: Moments, model: Tensors, delta: Tensors) -> tuple[Moments, Tensors]:
        return moments, moved(model, delta, self.lr, into=delta)


@dataclass(frozen=True)
class Momentum:
    """FedAvgM: v ← β·v + Δ, x ← x + η·v.

    Source: Hsu, Qi, Brown 2019, "Measuring the effects of non-identical data distribution for federated visual
    classification", § 4.2.
    """

    lr: float = 1.0
    beta: float = 0.9

    def __post_init__(self) -> None:
        positive("momentum", lr=self.lr)
        decay("momentum", beta=self.beta)

    def step(self, moments: Moments, model: Tensors, delta: Tensors) -> tuple[Moments, Tensors]:
        before = moments.get("v", {})
        v = {name: d + d.dtype.type(self.beta) * before.get(name, d.dtype.type(0)) for name, d in delta.items()}
        return {"v": v}, moved(model, v, self.lr, into=delta)


Second = Callable[[Tensor, Tensor, float], Tensor]
"""(v, Δ², β₂) → the next second moment."""


def _adagrad(v: Tensor, square: Tensor, beta2: float) -> Tensor:
    return np.asarray(v + square)


def _adam(v: Tensor, square: Tensor, beta2: float) -> Tensor:
    return np.asarray(square + square.dtype.type(beta2) * (v - square))


def _yogi(v: Tensor, square: Tensor, beta2: float) -> Tensor:
    return np.asarray(v - square.dtype.type(1 - beta2) * square * np.sign(v - square))


SECOND: Mapping[str, Second] = {"adagrad": _adagrad, "adam": _adam, "yogi": _yogi}


@dataclass(frozen=True)
class Adaptive:
    """FedAdagrad, FedAdam, FedYogi.

        m ← β₁·m + (1 − β₁)·Δ
        v ← v + Δ²                                      adagrad
            β₂·v + (1 − β₂)·Δ²                          adam
            v − (1 − β₂)·Δ²·sign(v − Δ²)                yogi
        x ← x + η·m / (√v + τ)

    m starts at 0 and v at τ², as the paper asks; there is no bias correction, as in the paper. τ is about the size
    below which a change is not taken up to full step length.

    Source: Reddi et al. 2021, "Adaptive federated optimization", alg. 2.
    """

    rule: Literal["adagrad", "adam", "yogi"]
    lr: float = 0.01
    beta1: float = 0.9
    beta2: float = 0.99
    tau: float = 1e-3

    def __post_init__(self) -> None:
        if self.rule not in SECOND:
            raise PartError(f"server_opt adaptive: rule is one of {', '.join(SECOND)}, got {self.rule!r}")
        positive(self.rule, lr=self.lr, tau=self.tau)
        decay(self.rule, beta1=self.beta1, beta2=self.beta2)

    def step(self, moments: Moments, model: Tensors, delta: Tensors) -> tuple[Moments, Tensors]:
        m, v = self._next(moments, delta)
        for name, direction in delta.items():
            np.sqrt(v[name], out=direction)
            np.add(direction, direction.dtype.type(self.tau), out=direction)
            np.divide(m[name], direction, out=direction)
        return {"m": m, "v": v}, moved(model, delta, self.lr, into=delta)

    def _next(self, moments: Moments, delta: Tensors) -> tuple[Tensors, Tensors]:
        before_m, before_v = moments.get("m", {}), moments.get("v", {})
        m, v = {}, {}
        for name, d in delta.items():
            number = d.dtype.type
            kept = number(self.beta1) * before_m[name] if name in before_m else 0
            m[name] = np.asarray(number(1 - self.beta1) * d + kept, dtype=d.dtype)
            start = before_v[name] if name in before_v else np.full_like(d, self.tau**2)
            v[name] = np.asarray(SECOND[self.rule](start, np.square(d), self.beta2), dtype=d.dtype)
        return m, v


def moved(model: Tensors, direction: Mapping[str, Tensor], lr: float, into: Tensors) -> Tensors:
    """Move x by lr·direction where there is a direction, made in the memory of `into`; elsewhere x itself.

    `into` may be the direction itself: a model's worth of fresh memory costs more than the arithmetic.
    """
    return {name: _add(x, direction[name], lr, into[name]) if name in direction else x for name, x in model.items()}


def _add(tensor: Tensor, direction: Tensor, lr: float, out: Tensor) -> Tensor:
    step = direction if lr == 1.0 else np.multiply(direction, direction.dtype.type(lr), out=out)
    return np.add(tensor, step, out=out)


def positive(part: str, **settings: float) -> None:
    """Refuse settings that are not finite numbers > 0, by name."""
    for name, value in settings.items():
        if not (math.isfinite(value) and value > 0):
            raise PartError(f"server_opt {part}: {name} is a finite number > 0, got {value}")


def decay(part: str, **settings: float) -> None:
    """Refuse settings outside [0, 1), by name."""
    for name, value in settings.items():
        if not 0 <= value < 1:
            raise PartError(f"server_opt {part}: {name} is in [0, 1), got {value}")
