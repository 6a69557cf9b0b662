"""In which precision a private step computes, and whether its kernels can be trusted there.

float32   IEEE single precision everywhere; TF32 excluded, which torch would use for convolutions on a GPU. The default.
tf32      GPU only: convolutions and matrix products round their inputs to 10 bits.
bfloat16  convolutions and linear layers in 8 bits, norms in float32.

Whatever the precision, clipping stays exact: a gradient that is kept is measured as it is summed, and where only its
norm is known, norm and sum are computed in float64 and float32 from the same rounded factors.

Run `models.private.self_test` before the first step in another precision than float32.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Literal, get_args

import torch

Precision = Literal["float32", "tf32", "bfloat16"]


def layer_dtype(precision: Precision) -> torch.dtype | None:
    """The dtype convolutions and linear layers are computed in; None: the model's own."""
    return torch.bfloat16 if precision == "bfloat16" else None


@contextmanager
def computing(precision: Precision, device: torch.device) -> Iterator[None]:
    """Let float32 kernels round as `precision` says, and nothing be cast behind our back.

    Raises ValueError for a precision that the device does not have.
    """
    if precision not in get_args(Precision):
        raise ValueError(f"precision: got {precision!r}; write one of {', '.join(get_args(Precision))}")
    if precision == "tf32" and device.type != "cuda":
        raise ValueError(f"precision: got 'tf32' on {device}; it exists on NVIDIA GPUs only: write float32")
    rounding = "tf32" if precision == "tf32" else "ieee"
    with ExitStack() as stack:
        for backend in _float32_backends(device):
            stack.enter_context(_float32_as(rounding, backend))
        stack.enter_context(torch.autocast(device.type, enabled=False))
        yield


def mixed(precision: Precision, device: torch.device) -> torch.autocast:
    """For the forward alone: what the engine does not cover follows torch's own rules for bfloat16."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16")


def _float32_backends(device: torch.device) -> tuple[Any, ...]:
    backends: Any = torch.backends  # its parts are made at run time, unknown to type checkers
    if device.type == "cuda":
        return backends.cudnn.conv, backends.cuda.matmul
    return backends.mkldnn.conv, backends.mkldnn.matmul


@contextmanager
def _float32_as(rounding: str, backend: Any) -> Iterator[None]:
    before = backend.fp32_precision
    backend.fp32_precision = rounding
    try:
        yield
    finally:
        backend.fp32_precision = before
