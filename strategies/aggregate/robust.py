"""Coordinate-wise rules that a minority of hospitals cannot pull far: the median and the trimmed mean.

What they withstand follows from how many answered, not from how many were asked; `least` is the fewest of whom they
withstand one.

Every hospital counts the same: weights by size are what a hospital says of itself, and would let one liar outvote all.

Source: Yin, Chen, Ramchandran, Bartlett 2018, "Byzantine-robust distributed learning: Towards optimal statistical
rates", definitions 1 (median) and 2 (trimmed mean).
"""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from strategies.aggregate import Combined
from strategies.aggregate.kept import Kept, Update, blocks, empty
from strategies.aggregate.sorting import network, sort_rows
from strategies.errors import PartError
from strategies.types import Tensor


@dataclass(frozen=True)
class Median:
    """The median of each coordinate; the mean of the middle two for an even number.

    Withstands fewer than half: of two it is the mean, and withstands nobody.
    """

    needs_individual = True
    least = 3

    def begin(self, like: Mapping[str, Tensor]) -> Kept:
        return Kept(like, _median)


FINEST = 0.001
"""One of a thousand hospitals at each end: a smaller fraction would cut nothing in any federation."""


@dataclass(frozen=True)
class TrimmedMean:
    """The mean of each coordinate without its ⌊fraction · n⌋ smallest and as many largest values, n having answered.

    Withstands that many arbitrary updates. `fraction` is in [0.001, 0.5).
    """

    fraction: float = 0.2
    needs_individual = True

    def __post_init__(self) -> None:
        if not FINEST <= self.fraction < 0.5:
            raise PartError(f"aggregate trimmed_mean: fraction is in [{FINEST}, 0.5), got {self.fraction}")

    @property
    def least(self) -> int:
        """Of fewer none would be cut: a plain mean, which withstands nobody."""
        return next(n for n in itertools.count(int(1 / self.fraction)) if self.cut(n))

    def cut(self, hospitals: int) -> int:
        """How many values are cut at each end."""
        return int(self.fraction * hospitals)

    def begin(self, like: Mapping[str, Tensor]) -> Kept:
        return Kept(like, lambda like, updates: _middle(like, updates, self.cut(len(updates))))


def _median(like: Mapping[str, Tensor], updates: list[Update]) -> Combined:
    return _middle(like, updates, (len(updates) - 1) // 2)


def _middle(like: Mapping[str, Tensor], updates: list[Update], cut: int) -> Combined:
    """Mean of each coordinate over what remains when `cut` values are dropped at each end."""
    count = len(updates)
    comparators = network(count, cut, count - cut) if cut else ()
    delta = empty(like)
    for name, part, rows in blocks(like, updates):
        sort_rows(rows, comparators, np.empty_like(rows[0]))
        total = rows[cut]
        for row in rows[cut + 1 : count - cut]:
            total += row
        delta[name].reshape(-1)[part] = total / total.dtype.type(count - 2 * cut)
    return Combined(delta, {update.hospital: 1 / count for update in updates})
