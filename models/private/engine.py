"""The fast engine: per-unit clipping in one forward and one backward.

Source: Bu, Wang, Dai, Karypis 2023, "Differentially private optimization on large model at small cost" (book-keeping),
carried over to convolutions whose units are several crops.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from models.private.precision import Precision, computing, layer_dtype, mixed
from models.private.release import Clipped, checked_clip, release, trainable
from models.private.tape import Tape
from models.private.units import Units

LossPerCrop = Callable[[Tensor, Tensor], Tensor]
"""(output of the model, y) → losses (B,), each of its own crop alone: `reduction="none"`."""


class Engine(Protocol):
    """What `clipped_sum` and `opacus_engine.clipped_sum` have in common."""

    def __call__(
        self,
        model: nn.Module,
        loss_per_crop: LossPerCrop,
        x: Tensor,
        y: Tensor,
        units: Sequence[int],
        clip: float,
        *,
        precision: Precision = "float32",
    ) -> Clipped: ...


def clipped_sum(
    model: nn.Module,
    loss_per_crop: LossPerCrop,
    x: Tensor,
    y: Tensor,
    units: Sequence[int],
    clip: float,
    *,
    precision: Precision = "float32",
) -> Clipped:
    """Sum the units' gradients, each clipped to L2 norm `clip` over all trainable parameters together.

    x (B, …) and y (B, …) hold the crops unit by unit; `units` says how many of them each unit has, in that order. A
    unit's loss is the mean over its crops. An empty batch gives zeros. The model and its `.grad` are left as they are;
    the crops must not see each other in it, which `models.private.check.check_model` finds out.

    Guarantees: a unit, with all its crops, moves the sum by at most `clip` when it is added or left out, and by at
    most twice that when it is replaced; one whose gradient is not finite adds zero. Adds no noise, and so protects
    nobody by itself: sum and norms are sensitive until noise is added.

    Raises UnitsError; ModelError for a parameter that no covered layer uses, or that is used twice; KernelError for
    a sum that cannot be right; ValueError for other arguments. Nothing is released then.
    """
    trained, cut = trainable(model), Units.of(units, rows=x.shape[0])
    checked_clip(clip)
    tape = Tape(trained, cut, layer_dtype(precision))
    if len(cut):
        with torch.enable_grad(), computing(precision, x.device):
            with mixed(precision, x.device), tape:
                losses_B = losses(model(x), y, loss_per_crop, rows=cut.rows)
            tape.backward(losses_B, mean_weights(cut, losses_B))
            del losses_B
    with torch.no_grad(), computing("float32", x.device):
        return release(trained, tape.shares, cut, clip)


def losses(output: Tensor, y: Tensor, loss_per_crop: LossPerCrop, *, rows: int) -> Tensor:
    """The losses (B,) in float32 or better. Raises ValueError where there is not one for each crop."""
    losses_B = loss_per_crop(output.to(torch.promote_types(output.dtype, torch.float32)), y)
    if losses_B.shape != (rows,):
        raise ValueError(
            f"loss_per_crop: got shape {tuple(losses_B.shape)}, one loss for each of {rows} crops was expected; "
            "pass reduction='none'"
        )
    return losses_B


def mean_weights(units: Units, losses_B: Tensor) -> Tensor:
    """1 / the unit's crops, for each crop."""
    counts_U = torch.tensor(units.counts, dtype=losses_B.dtype, device=losses_B.device)
    return units.spread(counts_U.reciprocal())
