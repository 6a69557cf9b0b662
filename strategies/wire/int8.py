"""Eight bits a number: each block of values is divided by its largest magnitude / 127 and rounded.

A quarter of float32, plus four bytes a block. The error of a value is at most half a step, 1/254 of the largest in its
block.

Source: block-wise linear quantisation as in Dettmers et al. 2022, "8-bit optimizers via block-wise quantization".
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from strategies.errors import PartError
from strategies.tensors import is_averaged
from strategies.types import Encoded, Tensor, Tensors
from strategies.wire.codec import decode, encode

STEPS = 127
SCALE = ".scale"
"""Group g's scales stand in group "g.scale", one float32 a block."""


@dataclass(frozen=True)
class Int8:
    """`block`: values that share a scale."""

    block: int = 1024
    is_linear = False

    def __post_init__(self) -> None:
        if self.block < 1:
            raise PartError(f"wire int8: block is at least 1, got {self.block}")

    def encode(self, delta: Tensors, residual: Tensors) -> tuple[Encoded, Tensors]:
        return encode(self, delta, residual)

    def decode(self, encoded: Encoded, like: Mapping[str, Tensor]) -> Tensors:
        return decode(self, encoded, like)

    def pack(self, groups: Encoded) -> Encoded:
        """Every tensor of floats in every group; positions and other integers stay as they are."""
        packed: Encoded = {}
        for group, tensors in groups.items():
            packed[group], packed[group + SCALE] = {}, {}
            for name, tensor in tensors.items():
                if is_averaged(tensor):
                    packed[group][name], packed[group + SCALE][name] = self._quantised(tensor)
                else:
                    packed[group][name] = tensor
        return packed

    def unpack(self, groups: Encoded, like: Mapping[str, Tensor]) -> Encoded:
        plain = [group for group in groups if not group.endswith(SCALE)]
        return {group: self._restored(groups[group], groups[group + SCALE]) for group in plain}

    def _quantised(self, tensor: Tensor) -> tuple[Tensor, Tensor]:
        blocks = self._blocks(tensor.reshape(-1).astype(np.float32, copy=False))
        scale = np.abs(blocks).max(axis=1) / np.float32(STEPS)
        steps = blocks / np.where(scale > 0, scale, np.float32(1))[:, None]
        codes = np.rint(steps).astype(np.int8).reshape(-1)[: tensor.size]
        return codes.reshape(tensor.shape), scale

    def _restored(self, tensors: Tensors, scales: Tensors) -> Tensors:
        return {name: self._dequantised(t, scales[name]) if name in scales else t for name, t in tensors.items()}

    def _dequantised(self, codes: Tensor, scale: Tensor) -> Tensor:
        blocks = self._blocks(codes.reshape(-1).astype(np.float32))
        if codes.dtype != np.int8 or scale.shape != (len(blocks),):
            raise ValueError(f"{scale.shape} scales for {len(blocks)} blocks of {codes.dtype}")
        values = blocks * scale.astype(np.float32)[:, None]
        return values.reshape(-1)[: codes.size].reshape(codes.shape)

    def _blocks(self, flat: Tensor) -> Tensor:
        """Shape (blocks, block), the last one filled up with zeros."""
        missing = -flat.size % self.block
        return (np.pad(flat, (0, missing)) if missing else flat).reshape(-1, self.block)
