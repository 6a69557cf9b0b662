"""Group norm and layer norm with a learned scale and shift.

Their per-crop gradients cost nothing beside the ordinary backward: they are sums which that computes on its way.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from models.private.layers import Gradients, Wanted
from models.private.shares import Kept
from models.private.units import Units


@dataclass(frozen=True)
class GroupNorm:
    """`functional.group_norm`: x (B, C, …)."""

    groups: int
    eps: float
    dtype: torch.dtype
    """Of the parameters."""

    def forward(self, x: Tensor, weight: Tensor | None, bias: Tensor | None) -> tuple[Tensor, tuple[Tensor, ...]]:
        rows, channels, *size = x.shape
        voxels = torch.Size(size).numel()
        y, mean, rstd = torch.native_group_norm(
            x.contiguous(), weight, bias, rows, channels, voxels, self.groups, self.eps
        )
        return y, (mean, rstd)

    def backward(
        self, g: Tensor, x: Tensor, weight: Tensor | None, saved: tuple[Tensor, ...], *, units: Units, wanted: Wanted
    ) -> Gradients:
        rows, channels, *size = x.shape
        # One crop whose channels are those of all crops: what the kernel sums over crops is then a crop's own.
        mean, rstd = (statistic.view(1, -1) for statistic in saved)
        dx, dweight, dbias = torch.ops.aten.native_group_norm_backward(
            g.contiguous().view(1, rows * channels, *size),
            x.contiguous().view(1, rows * channels, *size),
            mean,
            rstd,
            None if weight is None else weight.repeat(rows),
            1,
            rows * channels,
            torch.Size(size).numel(),
            rows * self.groups,
            [wanted.x, wanted.weight, wanted.bias],
        )
        return Gradients(
            x=dx.view_as(x) if wanted.x else None,
            weight=Kept(units.sum(dweight.view(rows, channels).to(self.dtype))) if wanted.weight else None,
            bias=Kept(units.sum(dbias.view(rows, channels).to(self.dtype))) if wanted.bias else None,
        )


@dataclass(frozen=True)
class LayerNorm:
    """`functional.layer_norm` over the last `shape` of x (B, …, *shape)."""

    shape: tuple[int, ...]
    eps: float
    dtype: torch.dtype
    """Of the parameters."""

    def forward(self, x: Tensor, weight: Tensor | None, bias: Tensor | None) -> tuple[Tensor, tuple[Tensor, ...]]:
        y, mean, rstd = torch.native_layer_norm(x, self.shape, weight, bias, self.eps)
        return y, (mean, rstd)

    def backward(
        self, g: Tensor, x: Tensor, weight: Tensor | None, saved: tuple[Tensor, ...], *, units: Units, wanted: Wanted
    ) -> Gradients:
        mean, rstd = saved
        dx = None
        if wanted.x:
            mask = [True, False, False]
            dx = torch.ops.aten.native_layer_norm_backward(g, x, self.shape, mean, rstd, weight, None, mask)[0]
        return Gradients(
            x=dx,
            weight=self._kept(g * (x - mean) * rstd, units) if wanted.weight else None,
            bias=self._kept(g, units) if wanted.bias else None,
        )

    def _kept(self, rows: Tensor, units: Units) -> Kept:
        positions = rows.reshape(rows.shape[0], -1, *self.shape)
        return Kept(units.sum(positions.sum(1, dtype=self.dtype)))
