"""Turn a scan so that its voxel axes follow the patient's: X to the left, Y to the back, Z to the head.

Axes are only swapped and reversed, never interpolated, so every voxel keeps its value and its place. A scan that
stands oblique in the patient keeps its angles and is turned to the nearest of the 24 (or mirrored 24) positions.
"""

from dataclasses import replace
from itertools import permutations
from typing import cast

import numpy as np

from data.volume import AXIAL, CtVolume, Direction, Point


def oriented(volume: CtVolume) -> CtVolume:
    """The same scan with its voxel axes along the patient's; world coordinates do not change.

    Crops of all hospitals then look the same way up, whichever way their scanners store slices.
    """
    if volume.direction == AXIAL:
        return volume
    axes = np.asarray(volume.direction)
    of_patient = _nearest_axes(axes)  # voxel axis (0 X, 1 Y, 2 Z) that runs along patient x, y, z
    backwards = tuple(bool(axes[patient, voxel] < 0) for patient, voxel in enumerate(of_patient))
    if of_patient == (0, 1, 2) and not any(backwards):
        return volume
    in_zyx = tuple(2 - voxel for voxel in reversed(of_patient))
    steps = tuple(slice(None, None, -1 if back else 1) for back in reversed(backwards))
    return replace(
        volume,
        hu_ZYX=volume.hu_ZYX.transpose(in_zyx)[steps],
        spacing_zyx_mm=cast(Point, tuple(volume.spacing_zyx_mm[axis] for axis in in_zyx)),
        origin_xyz_mm=volume.voxel_to_world(_first_corner(volume, of_patient, backwards)),
        direction=_turned(axes, of_patient, backwards),
        provenance=(*volume.provenance, "turned to the patient's axes"),
    )


def _nearest_axes(axes: np.ndarray) -> tuple[int, int, int]:
    """The pairing of patient axes with voxel axes that loses the least: exact for orthogonal scans, fair for others."""
    along = np.abs(axes)
    pairings = ((a, b, c) for a, b, c in permutations(range(3)))
    return max(pairings, key=lambda pairing: sum(along[p, v] for p, v in enumerate(pairing)))


def _first_corner(volume: CtVolume, of_patient: tuple[int, int, int], backwards: tuple[bool, ...]) -> Point:
    """Old index (z, y, x) of the voxel that becomes (0, 0, 0)."""
    corner = [0.0, 0.0, 0.0]
    for voxel, back in zip(of_patient, backwards, strict=True):
        corner[2 - voxel] = volume.hu_ZYX.shape[2 - voxel] - 1.0 if back else 0.0
    return cast(Point, tuple(corner))


def _turned(axes: np.ndarray, of_patient: tuple[int, int, int], backwards: tuple[bool, ...]) -> Direction:
    signs = np.where(backwards, -1.0, 1.0)
    return cast(Direction, tuple(tuple(float(v) for v in row) for row in axes[:, list(of_patient)] * signs))
