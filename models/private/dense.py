"""Weight gradients of a linear map applied at each position: Σ over a unit's rows and positions of g xᵀ.

x (B, G, C, T), g (B, G, D, T): T positions of G independent groups of channels; the weight is (G·D, C). Linear layers
and 1³ convolutions are of this kind.
"""

import torch
from torch import Tensor

from models.private.shares import Ghost, Kept, Share
from models.private.units import Units

GRAM_PRICE = 2
"""A multiplication for a Gram matrix is in float64, half as fast as float32 on CPUs and data-centre GPUs."""


def share(x_BGCT: Tensor, g_BGDT: Tensor, units: Units, dtype: torch.dtype) -> Share:
    """Per-unit gradients of the weight (G·D, C): formed, or by the Gram identity where that is cheaper."""
    _, groups, inputs, positions = x_BGCT.shape
    outputs = g_BGDT.shape[2]
    gram = units.pairs * positions**2 * groups * (inputs + outputs)
    if GRAM_PRICE * gram < units.rows * positions * groups * inputs * outputs:
        return Ghost(x_BGCT, g_BGDT, units.each(_squares, x_BGCT, g_BGDT), _contract, dtype)
    return Kept(units.each(_form, x_BGCT, g_BGDT).to(dtype))


def unit_positions(rows: Tensor) -> Tensor:
    """(u, n, G, C, T) → (u, G, C, n·T): the positions of all rows of a unit side by side."""
    return rows.permute(0, 2, 3, 1, 4).flatten(3)


def _form(x: Tensor, g: Tensor) -> Tensor:
    return unit_positions(g) @ unit_positions(x).mT


def _squares(x: Tensor, g: Tensor) -> Tensor:
    x_positions, g_positions = unit_positions(x).double(), unit_positions(g).double()
    return inner(x_positions.mT @ x_positions, g_positions.mT @ g_positions)


def inner(xx: Tensor, gg: Tensor) -> Tensor:
    """‖Σ gₜxₜᵀ‖² = Σₛₜ ⟨xₛ, xₜ⟩⟨gₛ, gₜ⟩, summed over the groups; (u, G, nT, nT) twice → (u,).

    Rounding can leave a gradient that is zero slightly below it.
    """
    squares: Tensor = torch.linalg.vecdot(xx.flatten(1), gg.flatten(1))
    return squares.clamp(min=0)


def _contract(x_BGCT: Tensor, g_BGDT: Tensor) -> Tensor:
    return torch.einsum("bgdt,bgct->gdc", g_BGDT, x_BGCT)
