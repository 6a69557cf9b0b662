"""A CT scan with its place in the patient.

Axes: Z slice, Y row, X column (voxel order). Suffix `_mm` millimetres, `_hu` Hounsfield units, `_xyz_mm` patient
coordinates in DICOM's LPS convention (x to the patient's left, y to the back, z to the head).
"""

import math
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data.errors import BadVoxels, BrokenGeometry

Point = tuple[float, float, float]
Direction = tuple[Point, Point, Point]

AXIAL: Direction = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))

AIR_HU = -1000
"""Air, by the definition of the Hounsfield scale: what stands where a scan holds nothing."""

ORTHONORMAL_TOLERANCE = 1e-3
"""Of direction cosines: headers round them to six digits, some scanners to four; a skewed grid is far outside."""

INT16 = np.iinfo(np.int16)
_IDENTITY = np.eye(3)


@dataclass(frozen=True, eq=False)
class CtVolume:
    """Hounsfield units and geometry, together. Immutable: operations return new volumes.

    Raises:
        BadVoxels: the array is not three-dimensional int16 with at least one voxel.
        BrokenGeometry: a spacing is not positive, or directions are not at right angles.
    """

    hu_ZYX: NDArray[np.int16]
    spacing_zyx_mm: Point
    origin_xyz_mm: Point
    """Centre of voxel (0, 0, 0)."""
    direction: Direction = AXIAL
    """Columns are the patient directions of increasing X, Y and Z index, as in ITK's direction cosines."""
    provenance: tuple[str, ...] = field(default=())
    """What was done to the voxels on the way here, in words ("padding replaced", "sheared 12.5 degrees")."""

    def __post_init__(self) -> None:
        _check_voxels(self.hu_ZYX)
        _check_geometry(self.spacing_zyx_mm, self.origin_xyz_mm, self.direction)

    def world_to_voxel(self, point_xyz_mm: Point) -> Point:
        """Patient coordinates (LPS, mm) → fractional voxel index (z, y, x)."""
        z, y, x = self.voxels_at(np.array([point_xyz_mm], dtype=float))[0].tolist()
        return z, y, x

    def voxels_at(self, points_xyz_mm: NDArray[np.float64]) -> NDArray[np.float64]:
        """As `world_to_voxel`, of many points at once: (N, 3) x, y, z → (N, 3) z, y, x."""
        from_origin = points_xyz_mm - np.asarray(self.origin_xyz_mm)
        along_xyz = np.linalg.solve(np.asarray(self.direction), from_origin.T).T
        voxels_zyx: NDArray[np.float64] = (along_xyz / self.spacing_zyx_mm[::-1])[:, ::-1]
        return voxels_zyx

    def voxel_to_world(self, voxel_zyx: Point) -> Point:
        """Fractional voxel index (z, y, x) → patient coordinates (LPS, mm)."""
        along_xyz = np.multiply(voxel_zyx[::-1], self.spacing_zyx_mm[::-1])
        x, y, z = np.add(self.origin_xyz_mm, np.asarray(self.direction) @ along_xyz)
        return float(x), float(y), float(z)

    def with_array(self, hu_ZYX: NDArray[np.int16], *, did: str) -> "CtVolume":
        """The same place in the patient with other voxels of the same shape; `did` goes into the provenance."""
        if hu_ZYX.shape != self.hu_ZYX.shape:
            raise BadVoxels(f"new voxels of shape {hu_ZYX.shape} do not fit a scan of shape {self.hu_ZYX.shape}")
        return replace(self, hu_ZYX=hu_ZYX, provenance=(*self.provenance, did))


def as_hu(stored_ZYX: NDArray[Any], *, where: str) -> NDArray[np.int16]:
    """Any numeric array of Hounsfield units → int16, rounded to the nearest.

    Raises:
        BadVoxels: NaN or infinite voxels, or values that no CT scan holds (beyond 16 bits).
    """
    if np.can_cast(stored_ZYX.dtype, np.int16):
        return stored_ZYX.astype(np.int16, copy=False)
    if np.issubdtype(stored_ZYX.dtype, np.floating) and not np.isfinite(stored_ZYX).all():
        bad = int(np.count_nonzero(~np.isfinite(stored_ZYX)))
        raise BadVoxels(f"{where}: {bad} of {stored_ZYX.size} voxels are NaN or infinite; export the scan again")
    low, high = (float(stored_ZYX.min()), float(stored_ZYX.max())) if stored_ZYX.size else (0.0, 0.0)
    if low < INT16.min or high > INT16.max:
        raise BadVoxels(f"{where}: values reach from {low:g} to {high:g}, beyond Hounsfield units; check the rescale")
    whole = np.rint(stored_ZYX) if np.issubdtype(stored_ZYX.dtype, np.floating) else stored_ZYX
    return whole.astype(np.int16)


def _check_voxels(hu_ZYX: NDArray[Any]) -> None:
    if hu_ZYX.ndim != 3 or hu_ZYX.dtype != np.int16 or hu_ZYX.size == 0:
        raise BadVoxels(f"a scan is a non-empty int16 array (Z, Y, X); got {hu_ZYX.dtype} of shape {hu_ZYX.shape}")


def _check_geometry(spacing_zyx_mm: Point, origin_xyz_mm: Point, direction: Direction) -> None:
    if not all(0 < s < np.inf for s in spacing_zyx_mm):
        raise BrokenGeometry(f"voxel spacing must be positive millimetres; got {spacing_zyx_mm} (z, y, x)")
    if not all(math.isfinite(c) for c in origin_xyz_mm):
        raise BrokenGeometry(f"the first voxel must lie somewhere; got {origin_xyz_mm} (x, y, z, mm)")
    if direction == AXIAL:
        return
    axes = np.asarray(direction, dtype=float)
    if axes.shape != (3, 3) or not np.abs(axes.T @ axes - _IDENTITY).max() <= ORTHONORMAL_TOLERANCE:
        raise BrokenGeometry(f"the axes of a scan are three unit vectors at right angles; got columns of {direction}")
