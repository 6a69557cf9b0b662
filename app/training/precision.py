"""Half the bits only where the kernels are right: bfloat16 autocast behind a self-test.

torch 2.13.0 on a CPU computes a wrong bfloat16 weight gradient of Conv3d where the output map is two voxels deep (3³
kernel, stride 1, padding 1; values up to 1e17 or NaN). Therefore every convolution and linear layer of the model is
tried at the very shape it will have, in both precisions, before the first step.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.conv import _ConvNd

log = logging.getLogger(__name__)

AMP = ("auto", "off", "bf16")
"""auto: bfloat16 on a GPU, float32 on a CPU. off: float32, TF32 excluded. bf16: bfloat16 wherever it is right."""

TOLERANCE = 0.02
"""Relative error of a gradient. bfloat16 keeps 8 bits: rounding costs up to 2^-9 = 0.002; a broken kernel, > 0.1."""

_CONVOLUTIONS: dict[int, Callable[..., Tensor]] = {1: functional.conv1d, 2: functional.conv2d, 3: functional.conv3d}


@dataclass(frozen=True)
class Kernel:
    """One layer's computation, by shapes alone."""

    x_shape: tuple[int, ...]
    weight_shape: tuple[int, ...]
    convolution: tuple[Any, ...] | None = None
    """stride, padding, dilation, groups; None for a linear layer."""

    def run(self, x: Tensor, weight: Tensor) -> Tensor:
        if self.convolution is None:
            return functional.linear(x, weight)
        stride, padding, dilation, groups = self.convolution
        of = _CONVOLUTIONS[len(self.weight_shape) - 2]
        return of(x, weight, stride=stride, padding=padding, dilation=dilation, groups=groups)


@contextmanager
def precision(amp: str, model: nn.Module, x_shape: tuple[int, ...], device: torch.device) -> Iterator[str]:
    """Compute in the precision that `amp` asks for and the kernels allow; yields its name, float32 or bfloat16.

    `x_shape` is that of a whole batch (B, C, Z, Y, X). On a GPU, float32 means float32: no TF32.
    """
    wanted = amp == "bf16" or (amp == "auto" and device.type == "cuda")
    with ExitStack() as stack:
        stack.enter_context(full_precision(device))
        is_half = wanted and _is_right(model, x_shape, device)
        if is_half:
            # Without its cache: that keeps the first step's bfloat16 weights until the whole fit is over.
            stack.enter_context(torch.autocast(device.type, torch.bfloat16, cache_enabled=False))
        yield "bfloat16" if is_half else "float32"


def full_precision(device: torch.device) -> AbstractContextManager[None]:
    """Inside, float32 means float32 on a GPU too: cuDNN's convolutions would take TF32, with 10 bits."""
    if device.type != "cuda":
        return nullcontext()
    flags: AbstractContextManager[None] = torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False)
    return flags


def _is_right(model: nn.Module, x_shape: tuple[int, ...], device: torch.device) -> bool:
    for name, kernel in kernels(model, x_shape, device).items():
        error = bf16_error(kernel, device)
        if not error <= TOLERANCE:  # a NaN is an error too
            log.warning(
                "bfloat16 is wrong on %s: gradient of %s is off by %.2g; computing in float32", device, name, error
            )
            return False
    return True


def kernels(model: nn.Module, x_shape: tuple[int, ...], device: torch.device) -> dict[str, Kernel]:
    """Find which convolutions and linear layers a forward pass runs, and at which shapes."""
    found: dict[str, Kernel] = {}
    hooks = []

    def record(name: str, layer: Any) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        how = (layer.stride, layer.padding, layer.dilation, layer.groups) if isinstance(layer, _ConvNd) else None
        weight_shape = tuple(layer.weight.shape)

        def hook(_layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            found[name] = Kernel(tuple(inputs[0].shape), weight_shape, how)

        return hook

    for name, layer in model.named_modules():
        if isinstance(layer, _ConvNd | nn.Linear):
            hooks.append(layer.register_forward_pre_hook(record(name, layer)))
    was_training = model.training
    try:
        with torch.no_grad():
            model.eval()(torch.zeros(x_shape, device=device))
    finally:
        model.train(was_training)
        for handle in hooks:
            handle.remove()
    return found


@lru_cache(maxsize=1024)
def bf16_error(kernel: Kernel, device: torch.device) -> float:
    """Compare a layer's result and gradients with float32's: the largest relative L2 error, NaN if any is."""
    exact, half = (_results(kernel, device, is_half) for is_half in (False, True))
    errors = [float((h - e).norm() / e.norm()) for h, e in zip(half, exact, strict=True)]
    return float(torch.tensor(errors).max())  # torch's max hands a NaN on


def _results(kernel: Kernel, device: torch.device, is_half: bool) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)

    def draw(shape: tuple[int, ...]) -> Tensor:
        # Exactly representable in both precisions, so that only the kernels can differ.
        return torch.randn(shape, generator=generator).bfloat16().float().to(device)

    x, weight = draw(kernel.x_shape).requires_grad_(), draw(kernel.weight_shape).requires_grad_()
    with torch.autocast(device.type, torch.bfloat16, enabled=is_half):
        out = kernel.run(x, weight)
    gradients = torch.autograd.grad(out, (x, weight), draw(tuple(out.shape)).to(out.dtype))
    return [t.float() for t in (out.detach(), *gradients)]
