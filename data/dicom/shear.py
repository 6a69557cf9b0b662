"""A stack of a tilted gantry, sheared upright: each slice is shifted inside its own plane, by fractions of a pixel.

Linear interpolation along the shifted axis only: slices keep their planes, and voxels their places in the patient.
"""

import math

import numpy as np
from numpy.typing import NDArray

from data.volume import AIR_HU


def sheared(hu_ZYX: NDArray[np.int16], shifts_yx: NDArray[np.float64]) -> tuple[NDArray[np.int16], tuple[int, int]]:
    """Shift slice z by shifts_yx[z] pixels (towards higher indices) onto a grid that holds them all.

    Returns the new array, air where no slice reaches, and the index (y, x) that its first voxel has in the old first
    slice's pixels: zero or below.
    """
    corner = [0, 0]
    for axis in (0, 1):
        if np.abs(shifts_yx[:, axis]).max() > 0:
            hu_ZYX, corner[axis] = _along(hu_ZYX, shifts_yx[:, axis], axis=axis + 1)
    return hu_ZYX, (corner[0], corner[1])


def _along(hu_ZYX: NDArray[np.int16], shifts: NDArray[np.float64], *, axis: int) -> tuple[NDArray[np.int16], int]:
    lowest = math.floor(shifts.min())
    shape = list(hu_ZYX.shape)
    shape[axis] += math.ceil(shifts.max()) - lowest
    out = np.full(shape, AIR_HU, np.int16)
    for z, shift in enumerate(shifts.tolist()):
        whole = math.floor(shift)
        rows, target = np.moveaxis(hu_ZYX[z], axis - 1, 0), np.moveaxis(out[z], axis - 1, 0)
        _shift(rows, target[whole - lowest :], shift - whole)
    return out, lowest


def _shift(rows: NDArray[np.int16], target: NDArray[np.int16], share: float) -> None:
    """Write `rows` into `target`, `share` (0 to 1) of a row further on; voxels have extent, so half a row is a row."""
    count = len(rows)
    if share == 0:
        target[:count] = rows
        return
    exact = rows.astype(np.float32)
    target[1:count] = np.rint(exact[1:] * (1 - share) + exact[:-1] * share)
    if share <= 0.5:
        target[0] = rows[0]
    if share >= 0.5:
        target[count] = rows[-1]
