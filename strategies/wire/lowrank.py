"""Two thin matrices for a big one: M (m×n) ≈ P·Qᵀ with `rank` columns each.

A kernel of shape (out, in, Z, Y, X) is seen as a matrix (out, in·Z·Y·X). Power iterations from a fixed start find the
directions of largest change; P is orthonormal. Tensors that would not get smaller travel as they are.

Source: Vogels, Karimireddy, Jaggi 2019, "PowerSGD: Practical low-rank gradient compression for distributed
optimization", alg. 1, without its warm start, which would need a state at both ends.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from strategies.errors import PartError
from strategies.types import Encoded, Tensor, Tensors
from strategies.wire.codec import decode, encode

LEFT, RIGHT = "left", "right"
START_SEED = 0
"""Of the first directions. Nothing private and nothing random about it: it only must not be orthogonal to the rest."""


@dataclass(frozen=True)
class LowRank:
    """`rank`: columns of P and Q. `iterations`: power iterations; more is nearer to the best approximation."""

    rank: int = 8
    iterations: int = 2
    is_linear = False

    def __post_init__(self) -> None:
        if self.rank < 1 or self.iterations < 1:
            raise PartError(f"wire lowrank: rank ≥ 1 and iterations ≥ 1, got {self.rank}, {self.iterations}")

    def encode(self, delta: Tensors, residual: Tensors) -> tuple[Encoded, Tensors]:
        return encode(self, delta, residual)

    def decode(self, encoded: Encoded, like: Mapping[str, Tensor]) -> Tensors:
        return decode(self, encoded, like)

    def pack(self, groups: Encoded) -> Encoded:
        factors = {name: self._factors(t) for name, t in groups["values"].items() if self._pays(t)}
        return {
            **groups,
            "values": {name: t for name, t in groups["values"].items() if name not in factors},
            LEFT: {name: p for name, (p, _) in factors.items()},
            RIGHT: {name: q for name, (_, q) in factors.items()},
        }

    def unpack(self, groups: Encoded, like: Mapping[str, Tensor]) -> Encoded:
        left, right = groups[LEFT], groups[RIGHT]
        values = {
            name: self._product(left[name], right[name], like[name]) if name in left else groups["values"][name]
            for name in like
        }
        return {group: values if group == "values" else t for group, t in groups.items() if group not in (LEFT, RIGHT)}

    def _pays(self, tensor: Tensor) -> bool:
        return tensor.ndim > 1 and self.rank * sum(_matrix_shape(tensor)) < tensor.size

    def _factors(self, tensor: Tensor) -> tuple[Tensor, Tensor]:
        matrix = tensor.reshape(_matrix_shape(tensor))
        right = np.random.default_rng(START_SEED).standard_normal((matrix.shape[1], self.rank), dtype=np.float32)
        for _ in range(self.iterations):
            left, _ = np.linalg.qr(matrix @ right)
            right = matrix.T @ left
        return np.ascontiguousarray(left, np.float32), np.ascontiguousarray(right, np.float32)

    def _product(self, left: Tensor, right: Tensor, like: Tensor) -> Tensor:
        rows, columns = _matrix_shape(like)
        if left.shape != (rows, self.rank) or right.shape != (columns, self.rank):
            raise ValueError(f"factors of shape {left.shape} and {right.shape} for a matrix {rows}×{columns}")
        return (left @ right.T).reshape(like.shape)


def _matrix_shape(tensor: Tensor) -> tuple[int, int]:
    return (tensor.shape[0], tensor.size // max(1, tensor.shape[0])) if tensor.ndim > 1 else (tensor.size, 1)
