"""From shares to the clipped sum: the last step of every engine.

Sensitive until noise is added: the sum and the norms are functions of the patients' data. Neither may be logged, sent
or stored as they are.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.private.errors import Fault, KernelError, ModelError
from models.private.shares import Kept, Scales, Share
from models.private.units import Units

MARGIN = 1e-5
"""Units are clipped to clip / (1 + MARGIN): scaled in float32 to the bound itself, a gradient can come out 1.0000008
times as long as allowed."""

SLACK = 1e-6
"""Of the clip: what float32 may lose where gradients far below the bound cancel, before a sum counts as wrong."""

BLOCK = 2**12
"""Elements whose squares are summed in float32 when a sum is checked; the blocks are summed in float64."""

SMALL = 4096
"""Elements of a parameter up to which its per-unit gradients are joined with others'."""


@dataclass(frozen=True, eq=False)
class Clipped:
    """Σ over units of each unit's gradient, scaled down to at most `clip`."""

    sum: dict[str, Tensor]
    """By parameter name, in the order of `named_parameters()`: one entry for every trainable parameter."""
    norms: Tensor
    """(U,) float64: L2 norm of each unit's gradient before clipping; not finite where the unit was left out."""


def trainable(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that private training releases. Raises ModelError where there is none."""
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    if not trained:
        raise ModelError(Fault("model", "has no trainable parameter", "set requires_grad on what is to be trained"))
    return trained


def checked_clip(clip: float) -> float:
    """Raises ValueError for a bound that bounds nothing."""
    if not (math.isfinite(clip) and clip > 0):
        raise ValueError(f"clip: got {clip}; write a finite number above 0")
    return clip


def release(trained: Mapping[str, nn.Parameter], shares: Mapping[str, Share], units: Units, clip: float) -> Clipped:
    """Clip each unit over all parameters together, and sum.

    A unit whose gradient is not finite contributes zero: an error in its place would tell that it is there.

    Raises KernelError where the sum is longer than its parts allow, which only a wrong kernel can cause.
    """
    parts = _join(shares)
    norms_U = _norms([share for _, share in parts], units, next(iter(trained.values())).device)
    is_out_U = ~norms_U.isfinite()
    values_U = (clip / (1 + MARGIN) / norms_U).clamp(max=1).masked_fill(is_out_U, 0)
    scales = Scales(units, values_U, is_out_U, bool(is_out_U.any()))
    sums = {name: torch.zeros_like(p) for name, p in trained.items() if name not in shares}
    squares = [torch.zeros_like(norms_U[:0].sum())]
    for names, share in parts:
        total = share.weighted_sum(scales).flatten()
        squares.append(_square(total))
        pieces = torch.split(total, [trained[name].numel() for name in names])
        sums |= {name: piece.view(trained[name].shape) for name, piece in zip(names, pieces, strict=True)}
    _check_length(torch.stack(squares).sum().sqrt(), norms_U.masked_fill(is_out_U, 0), clip)
    return Clipped({name: sums[name] for name in trained}, norms_U)


def _join(shares: Mapping[str, Share]) -> list[tuple[list[str], Share]]:
    """The same shares, the many small kept ones as one: a network has a hundred, and each costs several calls."""
    small = {name: s.gradients_U for name, s in shares.items() if isinstance(s, Kept) and _is_small(s.gradients_U)}
    parts: list[tuple[list[str], Share]] = [([name], share) for name, share in shares.items() if name not in small]
    if small:
        parts.append((list(small), Kept(torch.cat([rows.flatten(1) for rows in small.values()], dim=1))))
    return parts


def _is_small(rows_U: Tensor) -> bool:
    return rows_U[0].numel() <= SMALL


def _norms(shares: Sequence[Share], units: Units, device: torch.device) -> Tensor:
    squares_U = torch.zeros(len(units), dtype=torch.float64, device=device)
    for share in shares:
        squares_U += share.squares()
    return squares_U.sqrt()


def _check_length(length: Tensor, norms_U: Tensor, clip: float) -> None:
    if not bool(length <= norms_U.clamp(max=clip).sum() * (1 + MARGIN) + SLACK * clip):
        raise KernelError(
            "the clipped sum is longer than its units allow: a gradient kernel of this device is wrong; "
            "choose precision float32, or the opacus engine"
        )


def _square(flat: Tensor) -> Tensor:
    """Σ t², float64, without a float64 copy of a large tensor."""
    whole = flat.numel() // BLOCK * BLOCK
    square: Tensor = torch.linalg.vector_norm(flat[whole:], dtype=torch.float64).square()
    if whole:
        square = square + torch.linalg.vector_norm(flat[:whole].view(-1, BLOCK), dim=1).double().square().sum()
    return square
