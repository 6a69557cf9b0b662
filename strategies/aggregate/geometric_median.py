"""The geometric median: the point with the least weighted sum of distances to the updates.

    min_z Σ α_k·‖z − Δ_k‖       by Weiszfeld's iteration, smoothed by ν:
    β_k = α_k / max(ν, ‖z − Δ_k‖),   z ← Σ β_k·Δ_k / Σ β_k

Withstands arbitrary updates of less than half the weight: where they hold ε < ½ of it and the others lie within r of
some point, z lies within r·2(1 − ε)/(1 − 2ε) of that point, to rounding. Three of ten can so move it by 3.5 r, however
far away they are; nothing is trimmed. What a hospital weighs is its own word unless `weighting` is equal.

Where the iteration begins, and ν, are told by the update round which more than half of the weight lies nearest: less
than half has no say in that. z stays a weighted mean of the updates, so the iteration runs on their inner products
alone: one pass over the coordinates before it, one after.

Source: Pillutla, Kakade, Harchaoui 2022, "Robust aggregation for federated learning" (RFA), alg. 2; the bound is of
the kind of Lopuhaä, Rousseeuw 1991, "Breakdown points of affine equivariant estimators", theorem 2.2.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from strategies.aggregate import Combined
from strategies.aggregate.distances import Matrix, gram, majority, reach, squared_distances, weighted_sum
from strategies.aggregate.kept import Kept, Update
from strategies.aggregate.mean import normalised
from strategies.errors import PartError
from strategies.types import Tensor

ITERATIONS = 100
CONVERGED = 1e-7
"""How far z moves in the iteration at which it ends, relative to the scale of ν. Weights would not tell: a small change
of the weight of an update far away is a long way."""


@dataclass(frozen=True)
class GeometricMedian:
    """`smoothing`: ν, relative to the least distance within which an update has more than half of the weight.

    α_k are the weighting's weights.
    """

    smoothing: float = 1e-6
    needs_individual = True
    least = 1

    def __post_init__(self) -> None:
        if not 0 < self.smoothing < 1:
            raise PartError(f"aggregate geometric_median: smoothing is in (0, 1), got {self.smoothing}")

    def begin(self, like: Mapping[str, Tensor]) -> Kept:
        return Kept(like, self._combine)

    def _combine(self, like: Mapping[str, Tensor], updates: list[Update]) -> Combined:
        alpha = np.array(list(normalised({update.hospital: update.factor for update in updates}).values()))
        lengths = reach(updates, alpha)
        weights = weiszfeld(gram(like, updates, lengths), alpha, self.smoothing)
        delta = weighted_sum(like, updates, [float(w) for w in weights * lengths.scale])
        return Combined(delta, {update.hospital: float(w) for update, w in zip(updates, weights, strict=True)})


def weiszfeld(products: Matrix, alpha: Matrix, smoothing: float) -> Matrix:
    """Weights of the smoothed geometric median of points with these inner products, shape (K,), sum 1."""
    squares, (weights, scale) = np.diag(products), beginning(products, alpha)
    if scale == 0:  # more than half of the weight is in one place, and no other is better
        return weights
    for _ in range(ITERATIONS):
        along = products @ weights
        distances = np.sqrt(np.maximum(squares - 2 * along + weights @ along, 0.0))
        beta = alpha / np.maximum(distances, smoothing * scale)
        before, weights = weights, beta / beta.sum()
        if np.abs(weights - before) @ distances < CONVERGED * scale:
            break
    return weights


def beginning(products: Matrix, alpha: Matrix) -> tuple[Matrix, float]:
    """The mean of the nearest neighbours that hold more than half of the weight, as weights; and how near they are."""
    apart = np.sqrt(squared_distances(products))
    radius = majority(apart, alpha)
    middle = radius.argmin()
    near = np.where(apart[middle] <= radius[middle], alpha, 0.0)
    return near / near.sum(), float(radius[middle])
