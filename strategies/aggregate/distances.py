"""Distances between updates, and weighted sums of them.

Every rule that looks at distances alone needs only the inner products of the updates: one pass over the coordinates
gives a K×K matrix, and the rest is arithmetic on that.

How long an update is, is its hospital's choice. So nothing here is measured by the longest one: lengths are told by
what more than half of the weight has, which less than half cannot set.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from strategies.aggregate.kept import Update, blocks
from strategies.tensors import accumulator_dtype, add_all
from strategies.types import Tensor, Tensors

Matrix = NDArray[np.float64]

FAR = 1e6
"""An update is taken as at most this many usual ones long. Products of longer ones would overflow; what tells where an
update so far off lies is its direction, seen from any of the others the same to a millionth."""


@dataclass(frozen=True)
class Reach:
    """Lengths of updates, as one who does not trust them reads them. Each of shape (K,)."""

    scale: Matrix
    """Times an update: no longer than FAR usual ones. 1 but for the absurd."""
    centre: Matrix
    """Shares of a mean in which none counts with more than a usual length; they sum to 1."""


def reach(updates: Sequence[Update], shares: Matrix) -> Reach:
    """`shares`, which sum to 1, say how much each update counts when the usual length is told."""
    norms = np.array([update.norm for update in updates])
    usual = float(majority(norms, shares))
    if usual == 0:  # more than half are zeros: there is nothing to compare with
        usual = float(norms.max()) or 1.0
    short = usual / np.maximum(norms, usual)
    return Reach(np.minimum(1.0, FAR * short), short / short.sum())


def majority(values: Matrix, shares: Matrix) -> Matrix:
    """The least value that more than half of the shares are at or below, along the last axis."""
    order = np.argsort(values, axis=-1)
    enough = np.cumsum(shares[order], axis=-1) > 0.5
    last = np.take_along_axis(order, enough.argmax(axis=-1, keepdims=True), axis=-1)
    return np.asarray(np.take_along_axis(values, last, axis=-1)[..., 0])


def gram(like: Mapping[str, Tensor], updates: list[Update], reach: Reach) -> Matrix:
    """⟨Δ_i − c, Δ_j − c⟩ for all pairs, shape (K, K), of updates as long as `reach` lets them be.

    Taken about a point c amid them, so that distances between near updates do not drown in the products of long ones;
    not about their mean, which one update could carry off.
    """
    total = np.zeros((len(updates), len(updates)))
    is_cut = bool((reach.scale < 1).any())
    for _, _, rows in blocks(like, updates):
        block = np.stack(rows)
        if is_cut:
            block *= reach.scale[:, None].astype(block.dtype)
        block -= reach.centre.astype(block.dtype) @ block
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
