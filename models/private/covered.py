"""Which functions of torch the engine covers, and how their arguments become a layer.

Calls are recognised by function and by the very parameter they are given, not by module type: what a module does with
its weight before the call (weight norm, a cast, a slice) is then seen, and refused, instead of missed.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from models.private.conv import Conv
from models.private.layers import Layer
from models.private.linear import Linear
from models.private.norms import GroupNorm, LayerNorm
from models.private.patches import Axis


@dataclass(frozen=True, eq=False)
class Call:
    """One call of a covered function."""

    x: Tensor
    crops: int
    """Rows of x; 0 where it has no dimension for them."""
    weight: Tensor | None
    bias: Tensor | None
    layer: Layer
    is_norm: bool
    """Norms are computed in the parameters' precision, whatever the one asked for."""


def convolution(rank: int) -> Callable[..., Call]:
    """The reading of `functional.conv{rank}d`'s arguments."""

    def read(
        input: Tensor,  # torch's argument names
        weight: Tensor,
        bias: Tensor | None = None,
        stride: int | Sequence[int] = 1,
        padding: str | int | Sequence[int] = 0,
        dilation: int | Sequence[int] = 1,
        groups: int = 1,
    ) -> Call:
        kernel, strides, dilations = tuple(weight.shape[2:]), _each(stride, rank), _each(dilation, rank)
        x, paddings = input, [0] * rank
        if isinstance(padding, str):
            if padding == "same":
                x, paddings = _pad_same(input, kernel, dilations)
        else:
            paddings = _each(padding, rank)
        axes = tuple(map(Axis, kernel, strides, paddings, dilations))
        crops = input.shape[0] if input.dim() == weight.dim() else 0
        return Call(x, crops, weight, bias, Conv(axes, groups, weight.dtype), is_norm=False)

    return read


def _each(value: int | Sequence[int], rank: int) -> list[int]:
    values = [value] if isinstance(value, int) else list(value)
    return values * rank if len(values) == 1 else values


def _pad_same(x: Tensor, kernel: Sequence[int], dilation: Sequence[int]) -> tuple[Tensor, list[int]]:
    """An even kernel wants one voxel more at the far end; the rest is ordinary padding."""
    totals = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
    if any(total % 2 for total in totals):
        x = functional.pad(x, [extra for total in reversed(totals) for extra in (0, total % 2)])
    return x, [total // 2 for total in totals]


def _linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Call:
    return Call(input, _rows(input), weight, bias, Linear(weight.dtype), is_norm=False)


def _group_norm(
    input: Tensor,
    num_groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Call:
    layer = GroupNorm(num_groups, eps, _dtype(weight, bias, input))
    return Call(input, _rows(input), weight, bias, layer, is_norm=True)


def _layer_norm(
    input: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Call:
    layer = LayerNorm(tuple(normalized_shape), eps, _dtype(weight, bias, input))
    return Call(input, _rows(input), weight, bias, layer, is_norm=True)


def _rows(x: Tensor) -> int:
    return x.shape[0] if x.dim() > 1 else 0


def _dtype(*tensors: Tensor | None) -> torch.dtype:
    return next(t.dtype for t in tensors if t is not None)


COVERED: dict[Any, Callable[..., Call]] = {
    functional.conv1d: convolution(1),
    functional.conv2d: convolution(2),
    functional.conv3d: convolution(3),
    functional.linear: _linear,
    functional.group_norm: _group_norm,
    functional.layer_norm: _layer_norm,
}
"""Function → the reading of its arguments."""
