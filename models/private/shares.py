"""What is known of a parameter's per-unit gradients after the backward: their norms, and how to sum them scaled.

`Kept` has the gradients themselves. `Ghost` has only what they are made of, the layer's input x and output gradient
g, and sums them by one ordinary weight gradient of (x, scale · g). Either way the sum costs one pass, and the second
backward of two-pass ghost clipping is never run: the book-keeping of Bu, Wang, Dai, Karypis 2023.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor

from models.private.units import Units

PIECE = 2**14
"""Elements of a unit's gradient that are squared at a time: their float64 copies stay in the cache."""


@dataclass(frozen=True, eq=False)
class Scales:
    """The factor on each unit's gradient; units that are left out for being non-finite have `is_out` set."""

    units: Units
    values_U: Tensor
    is_out_U: Tensor
    is_anyone_out: bool

    @cached_property
    def of_rows(self) -> Tensor:
        """(B,): the factor of each row's unit."""
        return self.units.spread(self.values_U)

    def clean_units(self, rows_U: Tensor) -> Tensor:
        """Zero the rows of left-out units: 0 · NaN would still be NaN."""
        return _zeroed(rows_U, self.is_out_U) if self.is_anyone_out else rows_U

    def clean_rows(self, rows_B: Tensor) -> Tensor:
        return _zeroed(rows_B, self.units.spread(self.is_out_U)) if self.is_anyone_out else rows_B


def _zeroed(rows: Tensor, is_out: Tensor) -> Tensor:
    return rows.masked_fill(is_out.view(-1, *(1,) * (rows.dim() - 1)), 0)


class Share(Protocol):
    """Per-unit gradients of one parameter."""

    def squares(self) -> Tensor:
        """(U,) float64: squared L2 norm of each unit's gradient."""

    def weighted_sum(self, scales: Scales) -> Tensor:
        """Σ scale · gradient over the units; elements in the parameter's order, in any shape."""


@dataclass(frozen=True, eq=False)
class Kept:
    """The gradients themselves, (U, …), in the parameter's dtype."""

    gradients_U: Tensor

    def squares(self) -> Tensor:
        pieces = torch.split(self.gradients_U.flatten(1), PIECE, dim=1)
        return torch.stack([torch.linalg.vector_norm(p, dim=1, dtype=torch.float64) for p in pieces]).square().sum(0)

    def weighted_sum(self, scales: Scales) -> Tensor:
        gradients_U = scales.clean_units(self.gradients_U)
        return scales.values_U.to(gradients_U.dtype) @ gradients_U.flatten(1)


@dataclass(frozen=True, eq=False)
class Ghost:
    """The two factors of the gradients, rows (B, …) each, and the squared norms."""

    x_B: Tensor
    g_B: Tensor
    squares_U: Tensor
    contract: Callable[[Tensor, Tensor], Tensor]
    """(x, g) → the gradient summed over all rows."""
    dtype: torch.dtype
    """The parameter's: the norm is that of the exact sum, so the sum is taken in full precision."""

    def squares(self) -> Tensor:
        return self.squares_U

    def weighted_sum(self, scales: Scales) -> Tensor:
        g_B = scales.clean_rows(self.g_B).to(self.dtype)
        scaled_B = g_B * scales.of_rows.to(self.dtype).view(-1, *(1,) * (g_B.dim() - 1))
        return self.contract(scales.clean_rows(self.x_B).to(self.dtype), scaled_B)
