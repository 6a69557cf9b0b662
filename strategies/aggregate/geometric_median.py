"""The geometric median: the point with the least weighted sum of distances to the updates.

    min_z Σ α_k·‖z − Δ_k‖       by Weiszfeld's iteration, smoothed by ν:
    β_k = α_k / max(ν, ‖z − Δ_k‖),   z ← Σ β_k·Δ_k / Σ β_k

z stays a weighted mean of the updates, so the iteration runs on their inner products alone: one pass over the
coordinates before it, one after. Withstands arbitrary updates of less than half the weight.

Source: Pillutla, Kakade, Harchaoui 2022, "Robust aggregation for federated learning" (RFA), alg. 2.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from strategies.aggregate import Combined
from strategies.aggregate.distances import Matrix, gram, weighted_sum
from strategies.aggregate.kept import Kept, Update
from strategies.aggregate.mean import normalised
from strategies.errors import PartError
from strategies.types import Tensor

ITERATIONS = 100
CONVERGED = 1e-7
"""Largest change of a weight in an iteration at which it ends; the weights sum to 1."""


@dataclass(frozen=True)
class GeometricMedian:
    """`smoothing`: ν, relative to the updates' median distance from their mean. α_k are the weighting's weights."""

    smoothing: float = 1e-6
    needs_individual = True
    least = 1

    def __post_init__(self) -> None:
        if not 0 < self.smoothing < 1:
            raise PartError(f"aggregate geometric_median: smoothing is in (0, 1), got {self.smoothing}")

    def begin(self, like: Mapping[str, Tensor]) -> Kept:
        return Kept(like, self._combine)

    def _combine(self, like: Mapping[str, Tensor], updates: list[Update]) -> Combined:
        alpha = normalised({update.hospital: update.factor for update in updates})
        weights = weiszfeld(gram(like, updates), np.array(list(alpha.values())), self.smoothing)
        used = {update.hospital: float(weight) for update, weight in zip(updates, weights, strict=True)}
        return Combined(weighted_sum(like, updates, list(used.values())), used)


def weiszfeld(products: Matrix, alpha: Matrix, smoothing: float) -> Matrix:
    """Weights of the smoothed geometric median of points with these inner products, shape (K,), sum 1."""
    squares, weights = np.diag(products), alpha
    floor = smoothing * float(np.median(np.sqrt(squares)))
    if floor == 0:
        return alpha
    for _ in range(ITERATIONS):
        along = products @ weights
        distances = np.sqrt(np.maximum(squares - 2 * along + weights @ along, 0.0))
        beta = alpha / np.maximum(distances, floor)
        before, weights = weights, beta / beta.sum()
        if np.abs(weights - before).max() < CONVERGED:
            break
    return weights
