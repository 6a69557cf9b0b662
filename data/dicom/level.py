"""Slices at uneven heights, interpolated to even ones. Only where the hospital asks for it: it invents voxels."""

import numpy as np
from numpy.typing import NDArray


def levelled(hu_ZYX: NDArray[np.int16], heights: NDArray[np.float64]) -> NDArray[np.int16]:
    """Interpolate linearly between neighbours, to heights 0, 1, 2 and so on.

    Args:
        hu_ZYX: the slices, in order.
        heights: where they lie, in steps: strictly rising from 0 to a whole number.
    """
    count = round(float(heights[-1])) + 1
    at = np.arange(count, dtype=float)
    lower = np.clip(np.searchsorted(heights, at, side="right") - 1, 0, len(heights) - 2)
    shares = np.clip((at - heights[lower]) / (heights[lower + 1] - heights[lower]), 0, 1)
    out = np.empty((count, *hu_ZYX.shape[1:]), np.int16)
    for z, (below, share) in enumerate(zip(lower.tolist(), shares.tolist(), strict=True)):
        one, other = hu_ZYX[below].astype(np.float32), hu_ZYX[below + 1].astype(np.float32)
        out[z] = np.rint(one + (other - one) * np.float32(share))
    return out
