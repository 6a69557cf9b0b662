"""Cut cubes around places in a scan.

In:  a prepared scan, int16; a centre in patient coordinates (LPS, mm).
Out: a cube of `size` voxels a side, air where it leaves the scan.

The voxel nearest to the centre becomes voxel size // 2 of the cube: half a voxel of bias for even sizes, the same
for every hospital.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from data.errors import CropTooLarge, OutsideScan
from data.volume import CtVolume, Point

Corner = tuple[int, int, int]

EDGE = 1e-3
"""Voxels. A place on the very edge of a scan is inside, whatever the rounding of its coordinates."""


def corner_of(volume: CtVolume, centre_xyz_mm: Point, *, size: int) -> Corner:
    """As `corners_of`, of one place."""
    z, y, x = corners_of(volume, np.array([centre_xyz_mm], dtype=float), size=size)[0].tolist()
    return z, y, x


def corners_of(volume: CtVolume, centres_xyz_mm: NDArray[np.float64], *, size: int) -> NDArray[np.int64]:
    """First voxels (z, y, x) of the cubes around places (N, 3); negative where a cube begins outside the scan.

    Raises:
        CropTooLarge: the scan is smaller than the cube along some axis.
        OutsideScan: a place is not in the scan, or not a number.
    """
    shape = np.array(volume.hu_ZYX.shape)
    if size > shape.min():
        raise CropTooLarge(
            f"a crop of {size}³ voxels does not fit a scan of {' × '.join(map(str, shape))} (z, y, x) voxels of "
            f"{volume.spacing_zyx_mm[0]:g} mm; choose a smaller preprocess.size, or leave the scan out"
        )
    at = volume.voxels_at(centres_xyz_mm)
    inside = ((at >= -0.5 - EDGE) & (at <= shape - 0.5 + EDGE)).all(axis=1)
    if not inside.all():
        first = int(np.argmin(inside))
        raise OutsideScan(
            f"({_listed(centres_xyz_mm[first])}) mm (x, y, z) would be voxel ({_listed(at[first])}) (z, y, x) of a "
            f"scan of {' × '.join(map(str, shape))}; coordinates must be LPS, in millimetres, inside this scan"
        )
    nearest = np.clip(np.floor(at + 0.5).astype(np.int64), 0, shape - 1)
    return nearest - size // 2


def _listed(numbers: NDArray[np.float64]) -> str:
    return ", ".join(f"{number:.1f}" for number in numbers)


def cut(hu_ZYX: NDArray[np.int16], corner: Sequence[int], *, size: int, air: int) -> NDArray[np.int16]:
    """The cube that begins at `corner`. A view where it lies inside the scan, else a new array with `air` around."""
    z, y, x = corner
    depth, rows, columns = hu_ZYX.shape
    if z >= 0 and y >= 0 and x >= 0 and z + size <= depth and y + size <= rows and x + size <= columns:
        return hu_ZYX[z : z + size, y : y + size, x : x + size]
    cube = np.full((size, size, size), air, np.int16)
    inside = tuple(slice(max(c, 0), min(c + size, n)) for c, n in zip(corner, hu_ZYX.shape, strict=True))
    place = tuple(slice(s.start - c, s.stop - c) for c, s in zip(corner, inside, strict=True))
    cube[place] = hu_ZYX[inside]
    return cube
