"""Cut cubes around places in a scan.

In:  a prepared scan, int16; a centre in patient coordinates (LPS, mm).
Out: a cube of `size` voxels a side, air where it leaves the scan.

The voxel nearest to the centre becomes voxel size // 2 of the cube: half a voxel of bias for even sizes, the same
for every hospital.
"""

import numpy as np
from numpy.typing import NDArray

from data.errors import CropTooLarge, OutsideScan
from data.volume import CtVolume, Point

Corner = tuple[int, int, int]

EDGE = 1e-3
"""Voxels. A place on the very edge of a scan is inside, whatever the rounding of its coordinates."""


def corner_of(volume: CtVolume, centre_xyz_mm: Point, *, size: int) -> Corner:
    """First voxel (z, y, x) of the cube around a place; negative where the cube begins outside the scan.

    Raises:
        CropTooLarge: the scan is smaller than the cube along some axis.
        OutsideScan: the place is not in the scan, or not a number.
    """
    shape = volume.hu_ZYX.shape
    if size > min(shape):
        raise CropTooLarge(
            f"a crop of {size}³ voxels does not fit a scan of {' × '.join(map(str, shape))} (z, y, x) voxels of "
            f"{volume.spacing_zyx_mm[0]:g} mm; choose a smaller preprocess.size, or leave the scan out"
        )
    at = volume.world_to_voxel(centre_xyz_mm)
    if not all(-0.5 - EDGE <= i <= n - 0.5 + EDGE for i, n in zip(at, shape, strict=True)):
        raise OutsideScan(
            f"({_listed(centre_xyz_mm)}) mm (x, y, z) would be voxel ({_listed(at)}) (z, y, x) of a scan of "
            f"{' × '.join(map(str, shape))}; coordinates must be LPS, in millimetres, inside this scan"
        )
    nearest = [min(max(int(np.floor(i + 0.5)), 0), n - 1) for i, n in zip(at, shape, strict=True)]
    z, y, x = (i - size // 2 for i in nearest)
    return z, y, x


def _listed(numbers: Point) -> str:
    return ", ".join(f"{number:.1f}" for number in numbers)


def cut(hu_ZYX: NDArray[np.int16], corner: Corner, *, size: int, air: int) -> NDArray[np.int16]:
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
