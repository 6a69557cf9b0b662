"""The second engine: per-sample gradients by Opacus' hooks, summed per unit, clipped by the same last step.

Slower and larger than `models.private.clipped_sum` (every sample's gradient of every parameter is kept), but other
people's code: the cross-check of the first engine, and a choice where a model has layers only Opacus knows.
No Opacus type leaves this file.
"""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from opacus import GradSampleModule
from torch import Tensor, nn

from models.private.engine import LossPerCrop, losses, mean_weights
from models.private.errors import Fault, ModelError
from models.private.precision import Precision, computing
from models.private.release import Clipped, checked_clip, release, trainable
from models.private.shares import Kept, Share
from models.private.units import Units


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
    """Sum the units' gradients, each clipped to L2 norm `clip`: as `models.private.clipped_sum`, word for word.

    A parameter used twice is allowed here. Layers that overwrite what hooks still need (in-place ReLU, `out += x`)
    raise torch's own RuntimeError.

    Raises as the first engine does; ValueError for another precision than float32.
    """
    if precision != "float32":
        raise ValueError(f"precision: got {precision!r}; the opacus engine computes in float32: write that")
    trained, cut = trainable(model), Units.of(units, rows=x.shape[0])
    checked_clip(clip)
    shares: dict[str, Share] = {}
    if len(cut):
        with torch.enable_grad(), computing(precision, x.device):
            shares = _shares(model, trained, loss_per_crop, x, y, cut)
    with torch.no_grad():
        return release(trained, shares, cut, clip)


def _shares(
    model: nn.Module, trained: Mapping[str, nn.Parameter], loss_per_crop: LossPerCrop, x: Tensor, y: Tensor, cut: Units
) -> dict[str, Share]:
    was_training = model.training
    hooked = _hooked(model.train())
    try:
        losses_B = losses(hooked(x), y, loss_per_crop, rows=cut.rows)
        # The gradients themselves are not wanted; asking for them runs the hooks and leaves `.grad` alone.
        weights_B = mean_weights(cut, losses_B)
        found = _backward(losses_B, weights_B, list(trained.values()))
        return {
            name: Kept(cut.sum(_per_sample(name, parameter)))
            for (name, parameter), gradient in zip(trained.items(), found, strict=True)
            if gradient is not None
        }
    finally:
        hooked.to_standard_module()
        model.train(was_training)


def _backward(losses_B: Tensor, weights_B: Tensor, parameters: Sequence[nn.Parameter]) -> Sequence[Tensor | None]:
    with warnings.catch_warnings():
        # The crops need no gradient, so the first layer's hook has none to show; Opacus does not look at it.
        warnings.filterwarnings("ignore", "Full backward hook is firing", UserWarning)
        return torch.autograd.grad(losses_B, parameters, weights_B, allow_unused=True)


def _hooked(model: nn.Module) -> Any:
    try:
        return GradSampleModule(model, loss_reduction="sum")
    except NotImplementedError as error:
        raise ModelError(Fault("model", f"Opacus refuses it: {error}", "use layers without buffers")) from error


def _per_sample(name: str, parameter: nn.Parameter) -> Tensor:
    per_sample: Tensor | None = getattr(parameter, "grad_sample", None)
    if per_sample is None:
        raise ModelError(Fault(name, "is not covered by Opacus", "freeze it or use it through a layer of its own"))
    return per_sample.detach()
