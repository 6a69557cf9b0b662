"""What a layer must be able to do so that the private step covers it. One file per kind implements it.

A layer is the arithmetic of one call, without its tensors: forward, and a backward that returns the input's gradient
and, in place of the parameters' gradients, their per-unit shares.
"""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from models.private.shares import Kept, Share
from models.private.units import Units


@dataclass(frozen=True)
class Wanted:
    """Which gradients a backward needs."""

    x: bool
    weight: bool
    bias: bool


@dataclass(frozen=True, eq=False)
class Gradients:
    """The input's gradient, and what the parameters owe to each unit; None where it was not wanted."""

    x: Tensor | None = None
    weight: Share | None = None
    bias: Share | None = None


class Layer(Protocol):
    """One covered call."""

    def forward(self, x: Tensor, weight: Tensor | None, bias: Tensor | None) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The output, and what else the backward needs beside x."""

    def backward(
        self,
        g: Tensor,
        x: Tensor,
        weight: Tensor | None,
        saved: tuple[Tensor, ...],
        *,
        units: Units,
        wanted: Wanted,
    ) -> Gradients:
        """`g` is the output's gradient, row by row as x."""


def bias_share(g_B: Tensor, channels: int, units: Units, dtype: torch.dtype) -> Kept:
    """Per-unit gradients of a bias on dimension `channels` of the output: g summed over all others."""
    positions = [d for d in range(1, g_B.dim()) if d != channels % g_B.dim()]
    rows = g_B.sum(positions, dtype=dtype) if positions else g_B.to(dtype)
    return Kept(units.sum(rows))
