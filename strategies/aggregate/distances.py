"""Distances between updates, and weighted sums of them.

Every rule that looks at distances alone needs only the inner products of the updates: one pass over the coordinates
gives a K×K matrix, and the rest is arithmetic on that.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from strategies.aggregate.kept import Update, blocks
from strategies.tensors import accumulator_dtype, add_all
from strategies.types import Tensor, Tensors

Matrix = NDArray[np.float64]


def gram(like: Mapping[str, Tensor], updates: list[Update]) -> Matrix:
    """⟨Δ_i − Δ̄, Δ_j − Δ̄⟩ for all pairs, shape (K, K).

    Taken about the mean, so that distances between near updates do not drown in the products of long ones.
    """
    total = np.zeros((len(updates), len(updates)))
    for _, _, rows in blocks(like, updates):
        block = np.stack(rows)
        block -= block.mean(axis=0)
        total += block @ block.T
    return total


def squared_distances(products: Matrix) -> Matrix:
    """‖Δ_i − Δ_j‖² from inner products, shape (K, K)."""
    squares = np.diag(products)
    return np.maximum(squares[:, None] + squares[None, :] - 2 * products, 0.0)


def weighted_sum(like: Mapping[str, Tensor], updates: Sequence[Update], weights: Sequence[float]) -> Tensors:
    """Σ w_k·Δ_k; updates of weight zero are not read. Weights are normalised by the caller."""
    total = {name: np.zeros(t.shape, accumulator_dtype(t)) for name, t in like.items()}
    for update, weight in zip(updates, weights, strict=True):
        if weight:
            add_all(total, update.delta, weight)
    return {name: t.astype(like[name].dtype, copy=False) for name, t in total.items()}
