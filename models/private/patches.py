"""What a convolution sees at each output position: the patches, and their Gram matrix without forming them.

A patch is the input under the kernel at one output position, zero where it hangs over the edge. The inner product of
the patches at positions s and t is Σₖ ⟨x[s·stride + k], x[t·stride + k]⟩: sums along diagonals of the Gram matrix of
single voxels, which is smaller than the patches by the kernel's size. The sum separates over the axes.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional

Index = tuple[slice, ...]


@dataclass(frozen=True)
class Axis:
    """A convolution along one spatial axis."""

    kernel: int
    stride: int
    padding: int
    dilation: int

    def outputs(self, size: int) -> int:
        """How many output positions an input of `size` voxels has."""
        return (size + 2 * self.padding - self.dilation * (self.kernel - 1) - 1) // self.stride + 1

    def overlap(self, tap: int, size: int) -> tuple[slice, slice]:
        """Outputs for which kernel element `tap` lies inside the input, and the inputs it lies on."""
        offset = tap * self.dilation - self.padding
        first = max(0, -(offset // self.stride))
        last = min(self.outputs(size) - 1, (size - 1 - offset) // self.stride)
        if last < first:
            return slice(0, 0), slice(0, 0)
        start = first * self.stride + offset
        return slice(first, last + 1), slice(start, last * self.stride + offset + 1, self.stride)


def patch_gram(voxel_gram: Tensor, axes: Sequence[Axis], first_axis: tuple[int, int]) -> Tensor:
    """Gram matrix of patches from the Gram matrix of voxels.

    `voxel_gram` has the spatial axes twice: once from dimension first_axis[0] on, for s, and once from first_axis[1]
    on, for t. The result has output positions in their place.
    """
    gram = voxel_gram
    for axis_number, axis in enumerate(axes):
        gram = _sum_taps(gram, axis, *(first + axis_number for first in first_axis))
    return gram


def _sum_taps(gram: Tensor, axis: Axis, left: int, right: int) -> Tensor:
    size, shape = gram.shape[left], list(gram.shape)
    shape[left] = shape[right] = axis.outputs(size)
    total = gram.new_zeros(shape)
    for outputs, inputs in _taps(axis, size, left, right):
        total[outputs].add_(gram[inputs])
    return total


@lru_cache(maxsize=4096)
def _taps(axis: Axis, size: int, left: int, right: int) -> tuple[tuple[Index, Index], ...]:
    """Where each kernel element adds, and what; elements that only see padding are left out."""
    overlaps = (axis.overlap(tap, size) for tap in range(axis.kernel))
    return tuple((_at(outputs, left, right), _at(inputs, left, right)) for outputs, inputs in overlaps if outputs.stop)


def _at(where: slice, left: int, right: int) -> Index:
    index = [slice(None)] * (right + 1)
    index[left] = index[right] = where
    return tuple(index)


def unfold(x: Tensor, axes: Sequence[Axis]) -> Tensor:
    """(B, C, *size) → (B, C, *outputs, *kernel): a view of the padded input."""
    x = functional.pad(x, [axis.padding for axis in reversed(axes) for _ in range(2)])
    for dimension, axis in enumerate(axes, start=2):
        x = x.unfold(dimension, axis.dilation * (axis.kernel - 1) + 1, axis.stride)[..., :: axis.dilation]
    return x


def patch_rows(x: Tensor, axes: Sequence[Axis], groups: int) -> Tensor:
    """(B, G·C, *size) → (G, B·T, C·kernel): every patch as one row."""
    rank = len(axes)
    patches = torch.unflatten(unfold(x, axes), 1, (groups, -1))
    outputs, kernel = range(3, 3 + rank), range(3 + rank, 3 + 2 * rank)
    rows = x.shape[0] * math.prod(patches.shape[d] for d in outputs)
    return patches.permute(1, 0, *outputs, 2, *kernel).reshape(groups, rows, -1)
