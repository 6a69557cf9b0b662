"""What robust rules share: updates are kept as they came until the round ends, then gone through block by block.

A block is a range of coordinates of one tensor in all updates, copied into rows that fit the cache. Beyond the K
updates themselves memory holds one model for the result and one block, never the updates twice.

The order of updates does not matter: they are gone through by hospital name.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Self

import numpy as np

from strategies.aggregate import Combined
from strategies.aggregate.mean import check_factor
from strategies.errors import NoWeight
from strategies.tensors import accumulator_dtype, check_norm
from strategies.tensors import norm as l2
from strategies.types import Tensor, Tensors

BLOCK_BYTES = 1 << 21
"""All rows of a block together: they stay in the second-level cache while they are compared with one another."""

SHORTEST_BLOCK = 1 << 10
"""Coordinates; below, the cost of calling numpy would show."""


@dataclass(frozen=True)
class Update:
    hospital: str
    delta: Mapping[str, Tensor]
    factor: float
    norm: float
    """L2."""


@dataclass
class Kept:
    """Updates of a round and the rule that ends it."""

    like: Mapping[str, Tensor]
    rule: Callable[[Mapping[str, Tensor], list[Update]], Combined]
    updates: list[Update] = field(default_factory=list)

    def add(self, hospital: str, delta: Mapping[str, Tensor], factor: float, norm: float | None = None) -> None:
        check_factor(hospital, factor)
        if norm is not None:
            check_norm(delta, norm)
        self.updates.append(Update(hospital, delta, factor, l2(delta) if norm is None else norm))

    def merge(self, other: Self) -> None:
        self.updates += other.updates

    def combine(self) -> Combined:
        if not self.updates:
            raise NoWeight("no update came; nothing can be combined")
        return self.rule(self.like, sorted(self.updates, key=lambda update: update.hospital))


def blocks(like: Mapping[str, Tensor], updates: list[Update]) -> Iterator[tuple[str, slice, list[Tensor]]]:
    """Tensor by tensor, range by range: name, range of the flat tensor, and one row per update (ours to overwrite)."""
    for name, tensor in like.items():
        dtype = accumulator_dtype(tensor)
        flats = [update.delta[name].reshape(-1) for update in updates]
        length = max(SHORTEST_BLOCK, BLOCK_BYTES // (len(updates) * dtype.itemsize))
        buffer = np.empty((len(updates), min(length, tensor.size)), dtype)
        for start in range(0, tensor.size, length):
            part = slice(start, min(start + length, tensor.size))
            rows = [row[: part.stop - start] for row in buffer]
            for row, flat in zip(rows, flats, strict=True):
                row[:] = flat[part]
            yield name, part, rows


def empty(like: Mapping[str, Tensor]) -> Tensors:
    """Room for the result, in the updates' own dtypes."""
    return {name: np.empty(t.shape, t.dtype) for name, t in like.items()}
