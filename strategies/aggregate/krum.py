"""Krum and Multi-Krum: the update, or the mean of the updates, that lie nearest to their neighbours.

    score(k) = Σ ‖Δ_k − Δ_j‖² over the n − f − 2 updates j nearest to k
    Krum       the update with the lowest score
    Multi-Krum the mean of the m updates with the lowest scores, weighted as configured

Withstands f arbitrary updates among n where n ≥ 2f + 3, that is f < (n − 2)/2, and m ≤ n − f.

Source: Blanchard, El Mhamdi, Guerraoui, Stainer 2017, "Machine learning with adversaries: Byzantine tolerant gradient
descent", § 4 and § 6.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from strategies.aggregate import Combined
from strategies.aggregate.distances import Matrix, gram, reach, squared_distances, weighted_sum
from strategies.aggregate.kept import Kept, Update
from strategies.aggregate.mean import normalised
from strategies.errors import PartError
from strategies.types import Tensor


@dataclass(frozen=True)
class Krum:
    """`byzantine`: f, how many updates may be arbitrary. `chosen`: m, how many are averaged; 1 is Krum itself.

    Factors weigh the chosen against one another. Where all of these are zero, the chosen count the same: what a
    hospital says of its data must not end a round that the others have gone through.
    """

    byzantine: int = 1
    chosen: int = 1
    needs_individual = True

    def __post_init__(self) -> None:
        if self.byzantine < 0 or self.chosen < 1:
            raise PartError(f"aggregate krum: byzantine ≥ 0, chosen ≥ 1; got {self.byzantine}, {self.chosen}")

    @property
    def least(self) -> int:
        """Fewer updates than 2f + 3 prove nothing; of fewer than m + f, one of the f would be among the m."""
        return max(2 * self.byzantine + 3, self.chosen + self.byzantine)

    def begin(self, like: Mapping[str, Tensor]) -> Kept:
        return Kept(like, self._combine)

    def _combine(self, like: Mapping[str, Tensor], updates: list[Update]) -> Combined:
        products = gram(like, updates, reach(updates, np.full(len(updates), 1 / len(updates))))
        best = np.argsort(scores(products, self.byzantine), kind="stable")[: self.chosen]
        chosen = [updates[index] for index in sorted(best)]
        has_weight = any(update.factor > 0 for update in chosen)
        used = normalised({update.hospital: update.factor if has_weight else 1.0 for update in chosen})
        delta = weighted_sum(like, chosen, list(used.values()))
        return Combined(delta, {update.hospital: used.get(update.hospital, 0.0) for update in updates})


def scores(products: Matrix, byzantine: int) -> Matrix:
    """Sum of squared distances to the n − f − 2 nearest others (at least one), shape (K,)."""
    nearest = max(1, len(products) - byzantine - 2)
    others = np.sort(squared_distances(products) + np.diag(np.full(len(products), np.inf)), axis=1)
    return np.asarray(others[:, :nearest].sum(axis=1))
