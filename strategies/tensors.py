"""Arithmetic on named tensors.

Only floating tensors are averaged, clipped and noised. Integer and boolean ones (counters such as batch norm's
`num_batches_tracked`) keep the server's value: their mean means nothing, and they say how much data a hospital has.
"""

import math
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

import numpy as np
from scipy.linalg.blas import daxpy, saxpy

from strategies.errors import Misstated
from strategies.types import Tensor, Tensors

CHUNK = 1 << 16
"""Elements handled at once where a temporary is needed: 256 KiB of float32 stay in the second-level cache."""

PIECE = 1 << 18
"""Elements that are measured and then added while they are still in the second-level cache."""

NORM_TOLERANCE = 1e-3
"""How far, relatively, two machines may differ over the norm of the same update."""

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


def set_scaled(into: Tensor, tensor: Tensor, factor: float) -> None:
    """Put factor · tensor into memory that holds nothing yet."""
    np.multiply(tensor, into.dtype.type(factor), out=into, dtype=into.dtype)


Put = Callable[[Tensor, Tensor, float], None]
"""`add_scaled`, or `set_scaled` where nothing was added before."""


def add_all(into: Mapping[str, Tensor], update: Mapping[str, Tensor], factor: float, put: Put = add_scaled) -> None:
    """Add factor · update to `into`, tensor by tensor, in place."""
    for name, tensor in update.items():
        put(into[name], tensor, factor)


def add_checked(
    into: Mapping[str, Tensor], update: Mapping[str, Tensor], factor: float, norm: float, put: Put = add_scaled
) -> None:
    """Add factor · update to `into` in one pass, while the update's L2 norm is what `norm` says.

    Memory is read once for both, which is what this takes time for. Raises Misstated where the norm is another one or
    an element is not finite: before anything larger than stated is added, and with the rest taken back (to rounding).
    """
    least, most = _squares_of(norm)
    squares, added = 0.0, 0
    with np.errstate(over="ignore", invalid="ignore"):
        for to, piece in _pieces(into, update):
            squares += _squares(piece)
            if not squares <= most:
                break
            put(to, piece, factor)
            added += 1
    if not least <= squares <= most:
        for to, piece in islice(_pieces(into, update), added):
            add_scaled(to, piece, -factor)
        raise _misstated(norm)


def check_norm(update: Mapping[str, Tensor], stated: float) -> None:
    """Raise Misstated where the update's L2 norm is not `stated`."""
    least, most = _squares_of(stated)
    if not least <= norm(update) ** 2 <= most:
        raise _misstated(stated)


def _squares_of(norm: float) -> tuple[float, float]:
    """The least and the most that an update's squares may add up to; finite, so that nothing infinite is in between."""
    low, high = norm * (1 - NORM_TOLERANCE), norm * (1 + NORM_TOLERANCE)
    return low * low, min(high * high, sys.float_info.max)


def _misstated(norm: float) -> Misstated:
    return Misstated(f"an update is said to have an L2 norm of {norm:g}, and does not")


def _pieces(into: Mapping[str, Tensor], update: Mapping[str, Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
    for name, tensor in update.items():
        flat_into, flat = into[name].reshape(-1), tensor.reshape(-1)
        for start in range(0, flat.size, PIECE):
            yield flat_into[start : start + PIECE], flat[start : start + PIECE]


def difference(after: Mapping[str, Tensor], before: Mapping[str, Tensor], names: Iterable[str]) -> Tensors:
    """What a hospital sends: after − before, for the averaged tensors among `names`."""
    return {name: np.subtract(t, before[name]) for name, t in averaged(after, names).items()}


def squared_norm(tensor: Tensor) -> float:
    """Sum of squares; float32 within a chunk, float64 across chunks. Infinite or NaN where the tensor is."""
    flat = tensor.reshape(-1)
    with np.errstate(over="ignore", invalid="ignore"):
        return math.fsum(_squares(flat[start : start + CHUNK]) for start in range(0, flat.size, CHUNK))


def _squares(piece: Tensor) -> float:
    flat = piece if piece.dtype in AXPY else piece.astype(np.float32)
    return float(np.dot(flat, flat))


def norm(tensors: Mapping[str, Tensor]) -> float:
    """L2 norm over all averaged tensors together; NaN or infinite where any element is, or where squares overflow."""
    squares = [squared_norm(t) for t in tensors.values() if is_averaged(t)]
    return math.sqrt(sum(squares)) if all(map(math.isfinite, squares)) else math.nan


def nbytes(tensors: Mapping[str, Tensor]) -> int:
    """Bytes of the values, without names and shapes."""
    return sum(t.nbytes for t in tensors.values())
