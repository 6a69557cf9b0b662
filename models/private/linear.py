"""Linear layers: x (B, …, C) → (B, …, D). Rows of one crop between the first and the last dimension are positions."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from models.private import dense
from models.private.layers import Gradients, Wanted, bias_share
from models.private.units import Units


@dataclass(frozen=True)
class Linear:
    """`functional.linear`."""

    dtype: torch.dtype
    """Of the parameters."""

    def forward(self, x: Tensor, weight: Tensor | None, bias: Tensor | None) -> tuple[Tensor, tuple[Tensor, ...]]:
        if weight is None:
            raise TypeError("a linear layer needs its weight")
        return functional.linear(x, weight, bias), ()

    def backward(
        self, g: Tensor, x: Tensor, weight: Tensor | None, saved: tuple[Tensor, ...], *, units: Units, wanted: Wanted
    ) -> Gradients:
        return Gradients(
            x=g @ weight if wanted.x and weight is not None else None,
            weight=dense.share(_positions(x), _positions(g), units, self.dtype) if wanted.weight else None,
            bias=bias_share(g, -1, units, self.dtype) if wanted.bias else None,
        )


def _positions(rows: Tensor) -> Tensor:
    """(B, …, C) → (B, 1, C, T)."""
    return rows.reshape(rows.shape[0], 1, -1, rows.shape[-1]).mT
