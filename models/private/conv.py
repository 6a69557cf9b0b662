"""Convolutions in one, two and three dimensions.

Three ways to a unit's weight gradient, chosen by arithmetic that shapes alone decide, so that equal inputs give equal
bits. With T output positions, C·K inputs under the kernel and D outputs, a unit's gradient costs T·C·K·D to form; its
norm alone costs P²·C + T²·D by Gram matrices (P input positions), and the sum is then one ordinary weight gradient.
Large maps: form. Deep layers, few positions and many weights: Gram.

Forming (measured on one core of a Zen 4, torch 2.13, 8 crops, against one weight gradient of the whole batch):
* all units at once as the groups of a grouped convolution: 1.0-1.2 times;
* unit by unit: 1.0 times for a stem of one channel, where the grouped kernel takes 2-5 times as long; 2.4-6 times
  elsewhere, because torch hands a small single crop to its slow kernel;
* patches and a matrix product (as Opacus does): 3-12 times.
Summing: the native weight gradient, except for wide layers on maps of a few voxels, where it is 2-14 times slower than
patches and one matrix product.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from models.private import dense
from models.private.layers import Gradients, Wanted, bias_share
from models.private.patches import Axis, patch_gram, patch_rows
from models.private.shares import Ghost, Kept, Share
from models.private.units import Units

_FORWARD: dict[int, Callable[..., Tensor]] = {1: functional.conv1d, 2: functional.conv2d, 3: functional.conv3d}

THIN = 4
"""Input channels a group below which oneDNN's grouped weight gradient is slow, unless the kernel is plain 3³."""
SMALL_MAP, MANY_WEIGHTS = 8, 2**21
"""On maps of up to 2³ positions, layers of so many weights are summed as a matrix product of patches; on a single
position all are."""


@dataclass(frozen=True)
class Conv:
    """`functional.conv1d`, `conv2d` or `conv3d`, zero padding."""

    axes: tuple[Axis, ...]
    groups: int
    dtype: torch.dtype
    """Of the parameters."""

    def forward(self, x: Tensor, weight: Tensor | None, bias: Tensor | None) -> tuple[Tensor, tuple[Tensor, ...]]:
        stride, padding, dilation = self._geometry
        convolve = _FORWARD[len(self.axes)]
        return convolve(x, weight, bias, stride, padding, dilation, self.groups), ()

    def backward(
        self, g: Tensor, x: Tensor, weight: Tensor | None, saved: tuple[Tensor, ...], *, units: Units, wanted: Wanted
    ) -> Gradients:
        return Gradients(
            x=self._input_gradient(g, x, weight) if wanted.x and weight is not None else None,
            weight=self._weight_share(g, x, units) if wanted.weight else None,
            bias=bias_share(g, 1, units, self.dtype) if wanted.bias else None,
        )

    def _weight_share(self, g: Tensor, x: Tensor, units: Units) -> Share:
        if all(axis.kernel == 1 and axis.padding == 0 for axis in self.axes):
            return dense.share(self._channels(self._visited(x)), self._channels(g), units, self.dtype)
        if self._favours_gram(g, x, units):
            return Ghost(x, g, units.each(self._squares, x, g), self._contract, self.dtype)
        return Kept(units.each(self._form, x, g).to(self.dtype))

    def _favours_gram(self, g: Tensor, x: Tensor, units: Units) -> bool:
        inputs, outputs = math.prod(x.shape[2:]), math.prod(g.shape[2:])
        forming = units.rows * outputs * g.shape[1] * self._fan_in(x)
        gram = units.pairs * (inputs**2 * x.shape[1] + outputs**2 * g.shape[1])
        return dense.GRAM_PRICE * gram < forming

    def _squares(self, x: Tensor, g: Tensor) -> Tensor:
        """Squared norms by Gram matrices: (u, n, G·C, *size), (u, n, G·D, *outputs) → (u,)."""
        rank, crops = len(self.axes), x.shape[1]
        x_positions, g_positions = (
            dense.unit_positions(torch.unflatten(rows, 2, (self.groups, -1)).flatten(4)).double() for rows in (x, g)
        )
        voxels = (x_positions.mT @ x_positions).reshape(len(x), self.groups, crops, *x.shape[3:], crops, *x.shape[3:])
        patches = patch_gram(voxels, self.axes, (3, 4 + rank))
        return dense.inner(patches, g_positions.mT @ g_positions)

    def _form(self, x: Tensor, g: Tensor) -> Tensor:
        """The units' own gradients: (u, n, G·C, *size), (u, n, G·D, *outputs) → (u, G·D, C, *kernel)."""
        units, crops, channels = x.shape[0], x.shape[1], x.shape[2] // self.groups
        if x.device.type != "cpu":
            return self._form_singly(x, g)
        is_plain = all(axis.stride == 1 and axis.kernel <= 3 for axis in self.axes)
        if channels < THIN and not is_plain:
            # Crop by crop: this kernel adds all positions into one float32, and a stem has thousands of them.
            rows = self._form_singly(x.flatten(0, 1)[:, None], g.flatten(0, 1)[:, None])
            return torch.unflatten(rows, 0, (units, crops)).sum(1)
        x_side, g_side = (rows.transpose(0, 1).flatten(1, 2) for rows in (x, g))
        return torch.unflatten(self._weight_gradient(g_side, x_side, units * self.groups), 0, (units, -1))

    def _form_singly(self, x: Tensor, g: Tensor) -> Tensor:
        return torch.stack([self._weight_gradient(g_n, x_n, self.groups) for g_n, x_n in zip(g, x, strict=True)])

    def _contract(self, x: Tensor, g: Tensor) -> Tensor:
        positions, weights = math.prod(g.shape[2:]), g.shape[1] * self._fan_in(x)
        if positions == 1 or (positions <= SMALL_MAP and weights >= MANY_WEIGHTS):
            g_rows = self._channels(g).permute(1, 2, 0, 3).flatten(2)
            return g_rows @ patch_rows(x, self.axes, self.groups)
        return self._weight_gradient(g, x, self.groups)

    def _input_gradient(self, g: Tensor, x: Tensor, weight: Tensor) -> Tensor:
        return self._native(g, x, weight, self.groups, (True, False, False))[0]

    def _weight_gradient(self, g: Tensor, x: Tensor, groups: int) -> Tensor:
        shape = (g.shape[1], x.shape[1] // groups, *(axis.kernel for axis in self.axes))
        # Of the weight this kernel reads the shape only: memory that is never touched is never mapped.
        return self._native(g, x, x.new_empty(shape), groups, (False, True, False))[1]

    def _native(
        self, g: Tensor, x: Tensor, weight: Tensor, groups: int, wanted: tuple[bool, bool, bool]
    ) -> tuple[Tensor, Tensor, Tensor]:
        stride, padding, dilation = self._geometry
        no_output_padding = [0] * len(self.axes)
        gradients: tuple[Tensor, Tensor, Tensor] = torch.ops.aten.convolution_backward(
            g, x, weight, None, stride, padding, dilation, False, no_output_padding, groups, wanted
        )
        return gradients

    @property
    def _geometry(self) -> tuple[list[int], list[int], list[int]]:
        return [a.stride for a in self.axes], [a.padding for a in self.axes], [a.dilation for a in self.axes]

    def _fan_in(self, x: Tensor) -> int:
        return x.shape[1] // self.groups * math.prod(axis.kernel for axis in self.axes)

    def _channels(self, rows: Tensor) -> Tensor:
        """(B, G·C, *size) → (B, G, C, T)."""
        return torch.unflatten(rows.flatten(2), 1, (self.groups, -1))

    def _visited(self, x: Tensor) -> Tensor:
        """The voxels that a 1³ kernel lands on."""
        for dimension, axis in enumerate(self.axes, start=2):
            x = x[(slice(None),) * dimension + (slice(None, None, axis.stride),)]
        return x
