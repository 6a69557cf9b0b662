"""The weighted mean, streaming: Δ = Σ_k f_k·Δ_k / Σ_k f_k.

One accumulator as large as the model, whatever the number of hospitals; each reply is read once and may be dropped.

Source: McMahan et al. 2017, "Communication-efficient learning of deep networks from decentralized data", alg. 1.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Self

import numpy as np

from strategies.aggregate import Combined
from strategies.errors import BadFactor, NoWeight
from strategies.tensors import accumulator_dtype, add_all, add_checked, add_scaled, set_scaled
from strategies.types import Tensor, Tensors


@dataclass(frozen=True)
class Mean:
    needs_individual = False
    least = 1

    def begin(self, like: Mapping[str, Tensor]) -> "RunningMean":
        # Not zeros: memory that is first written whole comes in large pages, in half the time or less.
        return RunningMean({name: np.empty(t.shape, accumulator_dtype(t)) for name, t in like.items()}, dict(like))


@dataclass
class RunningMean:
    """Σ f_k·Δ_k and the factors. The accumulator is the only state, and it is ours.

    As long as there are no factors it holds nothing: what lies in its memory then is never read.
    """

    total: Tensors
    like: Mapping[str, Tensor]
    factors: dict[str, float] = field(default_factory=dict)

    def add(self, hospital: str, delta: Mapping[str, Tensor], factor: float, norm: float | None = None) -> None:
        check_factor(hospital, factor)
        put = add_scaled if self.factors else set_scaled
        if not self.factors:
            self._clear(self.total.keys() - delta.keys())
        if norm is not None:
            add_checked(self.total, delta, factor, norm, put)
        else:
            add_all(self.total, delta, factor, put)
        self.factors[hospital] = factor

    def merge(self, other: Self) -> None:
        if not other.factors:
            return
        if self.factors:
            add_all(self.total, other.total, 1.0)
        else:
            self.total = other.total
        self.factors |= other.factors

    def combine(self) -> Combined:
        weights = normalised(self.factors)
        scale = 1.0 / math.fsum(self.factors.values())
        for tensor in self.total.values():
            np.multiply(tensor, tensor.dtype.type(scale), out=tensor)
        delta = {name: tensor.astype(self.like[name].dtype, copy=False) for name, tensor in self.total.items()}
        return Combined(delta, weights)

    def _clear(self, names: Iterable[str]) -> None:
        """What the first update does not have is zero."""
        for name in names:
            self.total[name].fill(0)


def check_factor(hospital: str, factor: float) -> None:
    """Raise BadFactor for one that would make all weights of the round meaningless."""
    if not 0 <= factor < math.inf:
        raise BadFactor(f"the update of hospital {hospital!r} has the factor {factor}; a finite number ≥ 0 is needed")


def normalised(factors: Mapping[str, float]) -> dict[str, float]:
    """f_k / Σ f. Raises NoWeight, naming the hospitals, where that cannot be."""
    total = math.fsum(factors.values())
    if not (math.isfinite(total) and total > 0):
        raise NoWeight(
            f"the weights of hospitals {', '.join(sorted(factors)) or '(none)'} add up to {total}; "
            "nothing can be averaged: choose another strategy/weighting, or give it a floor"
        )
    return {hospital: factor / total for hospital, factor in factors.items()}
