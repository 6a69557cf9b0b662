"""Where a model computes: the device asked for, and how many threads."""

from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import torch

MB = 1 << 20


class DeviceError(ValueError):
    """The device asked for is not on this machine."""


def choose(wanted: str) -> torch.device:
    """Turn "auto", "cpu", "cuda" or "cuda:N" into a device that exists. "auto" is the first GPU, else the CPU.

    Raises DeviceError.
    """
    gpus = torch.cuda.device_count()
    if wanted == "auto":
        return torch.device("cuda:0" if gpus else "cpu")
    kind, _, index = wanted.partition(":")
    if kind not in ("cpu", "cuda") or (index and not (kind == "cuda" and index.isdecimal())):
        raise DeviceError(f"device: got {wanted!r}; write auto, cpu, cuda or cuda:N")
    if kind == "cuda" and int(index or 0) >= gpus:
        raise DeviceError(
            f"device: got {wanted!r}, torch {torch.__version__} sees {gpus} GPUs here; write auto or cpu, "
            "or look at the driver, CUDA_VISIBLE_DEVICES and the torch build"
        )
    return torch.device(kind, int(index or 0)) if kind == "cuda" else torch.device("cpu")


def describe(device: torch.device) -> str:
    """Name the device as the tables show it: "cpu", "cuda:0 NVIDIA H200"."""
    return f"{device} {torch.cuda.get_device_name(device)}" if device.type == "cuda" else str(device)


def free_mb(device: torch.device) -> float:
    """Memory that training could still take there, in whole MB: the GPU's, or this machine's."""
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else psutil.virtual_memory().available
    return float(free // MB)


@contextmanager
def threads(count: int | None) -> Iterator[None]:
    """Compute with `count` CPU threads inside, with as many as before afterwards; None changes nothing.

    Equal counts give bit-equal results, different ones do not (1.6e-6 apart after one step).
    """
    before = torch.get_num_threads()
    torch.set_num_threads(before if count is None else count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
