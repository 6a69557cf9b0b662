"""The largest changes only: of each tensor the ⌈fraction · n⌉ values of largest magnitude, with their positions.

Eight bytes a value kept: a fraction of 0.05 is a tenth of float32. What is left out waits in the hospital.

Source: Aji, Heafield 2017, "Sparse communication for distributed gradient descent".
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from strategies.errors import PartError
from strategies.types import Encoded, Tensor, Tensors
from strategies.wire.codec import decode, encode

POSITIONS = "positions"


@dataclass(frozen=True)
class TopK:
    """`fraction`: share of each tensor's values that travels; at least one."""

    fraction: float = 0.05
    is_linear = False

    def __post_init__(self) -> None:
        if not 0 < self.fraction <= 1:
            raise PartError(f"wire topk: fraction is in (0, 1], got {self.fraction}")

    def encode(self, delta: Tensors, residual: Tensors) -> tuple[Encoded, Tensors]:
        return encode(self, delta, residual)

    def decode(self, encoded: Encoded, like: Mapping[str, Tensor]) -> Tensors:
        return decode(self, encoded, like)

    def pack(self, groups: Encoded) -> Encoded:
        positions = {name: self._largest(tensor) for name, tensor in groups["values"].items()}
        values = {name: tensor.reshape(-1)[positions[name]] for name, tensor in groups["values"].items()}
        return {**groups, "values": values, POSITIONS: positions}

    def unpack(self, groups: Encoded, like: Mapping[str, Tensor]) -> Encoded:
        positions = groups[POSITIONS]
        values = {name: _scattered(t, positions[name], like[name]) for name, t in groups["values"].items()}
        return {group: values if group == "values" else t for group, t in groups.items() if group != POSITIONS}

    def _largest(self, tensor: Tensor) -> Tensor:
        kept = min(tensor.size, max(1, math.ceil(self.fraction * tensor.size)))
        if kept == tensor.size:
            return np.arange(tensor.size, dtype=np.int32)
        chosen = np.argpartition(np.abs(tensor.reshape(-1)), tensor.size - kept)[tensor.size - kept :]
        return np.sort(chosen).astype(np.int32)


def _scattered(values: Tensor, positions: Tensor, like: Tensor) -> Tensor:
    if positions.dtype != np.int32 or positions.shape != values.shape:
        raise ValueError(f"{positions.shape} positions of {positions.dtype} for {values.shape} values")
    if positions.size and (positions.min() < 0 or (np.diff(positions) <= 0).any()):
        raise ValueError("positions do not increase")
    flat = np.zeros(like.size, values.dtype)
    flat[positions] = values
    return flat.reshape(like.shape)
