"""Arithmetic on named tensors.

Only floating tensors are averaged, clipped and noised. Integer and boolean ones (counters such as batch norm's
`num_batches_tracked`) keep the server's value: their mean means nothing, and they say how much data a hospital has.
"""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from scipy.linalg.blas import daxpy, saxpy

from strategies.types import Tensor, Tensors

CHUNK = 1 << 16
"""Elements handled at once where a temporary is needed: 256 KiB of float32 stay in the second-level cache."""

AXPY = {np.dtype(np.float32): saxpy, np.dtype(np.float64): daxpy}
"""One pass over memory, in place; numpy's `a += w * b` takes two and a temporary as large as the model."""


def is_averaged(tensor: Tensor) -> bool:
    """Whether a tensor takes part in aggregation: floating point, of any shape, 0-d too."""
    return np.issubdtype(tensor.dtype, np.floating)


def averaged(tensors: Mapping[str, Tensor], names: Iterable[str]) -> Tensors:
    """Those of the named tensors that take part in aggregation, in the order of `names`."""
    return {name: tensors[name] for name in names if is_averaged(tensors[name])}


def accumulator_dtype(tensor: Tensor) -> np.dtype[Any]:
    """In what to sum: float32 at least, float64 for float64."""
    return np.result_type(tensor.dtype, np.float32)


def add_scaled(into: Tensor, tensor: Tensor, factor: float) -> None:
    """Add factor · tensor to `into`, in place, in one pass. `into` is C-contiguous and of the same shape."""
    flat_into, flat = into.reshape(-1), tensor.reshape(-1)
    if flat.size == 0:
        return
    axpy = AXPY.get(into.dtype)
    if axpy is not None and tensor.dtype == into.dtype:
        axpy(flat, flat_into, a=factor)
        return
    for start in range(0, flat.size, CHUNK):
        part = slice(start, start + CHUNK)
        flat_into[part] += flat[part].astype(into.dtype) * into.dtype.type(factor)


def difference(after: Mapping[str, Tensor], before: Mapping[str, Tensor], names: Iterable[str]) -> Tensors:
    """What a hospital sends: after − before, for the averaged tensors among `names`."""
    return {name: np.subtract(t, before[name]) for name, t in averaged(after, names).items()}


def squared_norm(tensor: Tensor) -> float:
    """Sum of squares; float32 within a chunk, float64 across chunks. Infinite or NaN where the tensor is."""
    flat = tensor.reshape(-1)
    if flat.dtype not in AXPY:
        flat = flat.astype(np.float32)
    parts = (flat[start : start + CHUNK] for start in range(0, flat.size, CHUNK))
    with np.errstate(over="ignore", invalid="ignore"):
        return math.fsum(float(np.dot(part, part)) for part in parts)


def norm(tensors: Mapping[str, Tensor]) -> float:
    """L2 norm over all averaged tensors together; NaN or infinite where any element is, or where squares overflow."""
    squares = [squared_norm(t) for t in tensors.values() if is_averaged(t)]
    return math.sqrt(sum(squares)) if all(map(math.isfinite, squares)) else math.nan


def nbytes(tensors: Mapping[str, Tensor]) -> int:
    """Bytes of the values, without names and shapes."""
    return sum(t.nbytes for t in tensors.values())
