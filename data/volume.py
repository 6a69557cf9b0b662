"""A CT scan with its place in the patient.

Axes: Z slice, Y row, X column (voxel order). Suffix `_mm` millimetres, `_hu` Hounsfield units, `_xyz_mm` patient
coordinates in DICOM's LPS convention (x to the patient's left, y to the back, z to the head).
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Direction = tuple[tuple[float, float, float], tuple[float, float, float], tuple[float, float, float]]

AXIAL: Direction = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))


@dataclass(frozen=True, eq=False)
class CtVolume:
    """Hounsfield units and geometry, together. Immutable: operations return new volumes."""

    hu_ZYX: NDArray[np.int16]
    spacing_zyx_mm: tuple[float, float, float]
    origin_xyz_mm: tuple[float, float, float]
    """Centre of voxel (0, 0, 0)."""
    direction: Direction = AXIAL
    """Columns are the patient directions of increasing X, Y and Z index, as in ITK's direction cosines."""
    provenance: tuple[str, ...] = field(default=())
    """What was done to the voxels on the way here, in words ("padding replaced", "sheared 12.5 degrees")."""

    def world_to_voxel(self, point_xyz_mm: tuple[float, float, float]) -> tuple[float, float, float]:
        """Patient coordinates (LPS, mm) → fractional voxel index (z, y, x)."""
        from_origin = np.subtract(point_xyz_mm, self.origin_xyz_mm)
        x, y, z = np.linalg.solve(np.asarray(self.direction), from_origin) / np.array(self.spacing_zyx_mm[::-1])
        return float(z), float(y), float(x)

    def voxel_to_world(self, voxel_zyx: tuple[float, float, float]) -> tuple[float, float, float]:
        """Fractional voxel index (z, y, x) → patient coordinates (LPS, mm)."""
        along_xyz = np.multiply(voxel_zyx[::-1], self.spacing_zyx_mm[::-1])
        x, y, z = np.add(self.origin_xyz_mm, np.asarray(self.direction) @ along_xyz)
        return float(x), float(y), float(z)
