"""Clip an update to an L2 ball: what bounds one hospital's influence, and with it the noise that hides it.

Only floating tensors count and are scaled, all of them together, of any shape; integers and booleans pass untouched
(they are not averaged). Norms are summed in float64: float32 sums of 14 M squares are off by enough to break a promise.
"""

import math
from collections.abc import Mapping

import numpy as np

from strategies.errors import PartError
from strategies.tensors import CHUNK, accumulator_dtype, is_averaged
from strategies.types import Tensor, Tensors

MARGIN = 1e-5
"""Clip to C / (1 + MARGIN): scaling in float32 otherwise gives norms of up to 1.0000008·C."""


def clip_update(delta: Tensors, clip: float) -> tuple[Tensors, float]:
    """Scale an update into the L2 ball of radius `clip`. Returns it and its norm before.

    Guarantees: the result's norm, summed in float64 over its floating tensors, is at most `clip`. An update within the
    ball is given back as it is; one that is not finite becomes zero, and its norm NaN (stopping would tell about it).
    Half precision comes back as float32: rounded to 2^-11, no margin would hold.
    """
    length = exact_norm(delta)
    if not math.isfinite(length):
        return _scaled(delta, 0.0), math.nan
    bound = clip / (1.0 + MARGIN)
    return (_scaled(delta, bound / length), length) if length > bound else (delta, length)


def exact_norm(tensors: Mapping[str, Tensor]) -> float:
    """L2 norm over all floating tensors, summed in float64; infinite or NaN where an element is."""
    with np.errstate(over="ignore", invalid="ignore"):
        return math.sqrt(sum(_squares(t) for t in tensors.values() if is_averaged(t)))


def check_clip(part: str, clip: float) -> None:
    """Refuse a clipping bound that is no finite number > 0."""
    if not (math.isfinite(clip) and clip > 0.0):
        raise PartError(
            f"privacy {part}: clip is {clip}; a finite L2 norm > 0 is needed (try the median update's norm)"
        )


def _squares(tensor: Tensor) -> float:
    flat = tensor.reshape(-1)
    blocks = (flat[start : start + CHUNK].astype(np.float64) for start in range(0, flat.size, CHUNK))
    return float(sum(np.dot(block, block) for block in blocks))


def _scaled(delta: Tensors, factor: float) -> Tensors:
    """A factor of 0 gives zeros whatever stood there: 0·NaN would be NaN."""
    if factor == 0.0:
        return {name: np.zeros_like(t) if is_averaged(t) else t for name, t in delta.items()}
    return {name: _times(t, factor) if is_averaged(t) else t for name, t in delta.items()}


def _times(tensor: Tensor, factor: float) -> Tensor:
    wide = accumulator_dtype(tensor)
    return np.asarray(tensor.astype(wide, copy=False) * wide.type(factor))
