"""Do the slices of a series form a box? Sort them, and say no by name.

SimpleITK and MONAI read any set of slices and average their distances: a missing slice shifts every coordinate behind
it. Here a set of slices is a volume, with an exact place for every voxel, or an error that says what is wrong.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from data.dicom.headers import SlicePlace
from data.errors import (
    BrokenGeometry,
    DuplicatePosition,
    MissingSlice,
    MixedSlices,
    TiltedStack,
    TooFewSlices,
    UnevenSteps,
)
from data.volume import ORTHONORMAL_TOLERANCE, Direction, Point

FEWEST_SLICES = 3
"""Two slices have one step, which cannot be seen to be even."""

STEP_TOLERANCE = 0.01
"""Relative, of a slice's distance from its place on an even grid, in steps; highdicom's default for spacings too."""

ROUNDING_MM = 0.101
"""Some scanners write positions in tenths of a millimetre: a slice may then lie 0.05 mm off its place, and the even
grid between the first and the last another 0.05: rounding, not a fault. At most a quarter of a step counts so."""

SAME_POSITION = 0.1
"""Of a typical step: closer slices are two at one position."""

WHOLE_STEPS = 0.1
"""How near to 2, 3, … typical steps a gap must be to be called missing slices rather than uneven steps."""

SAME_DIRECTION = 1e-4
"""Largest difference of direction cosines inside a series; over 512 voxels of 1 mm it moves the last by 0.05 mm."""

SAME_SPACING = 1e-4
"""Relative difference of pixel spacings inside a series."""

SHIFT_MM = 0.1
"""Largest sideways shift of a slice against a straight stack; a gantry tilt of 1° shifts each millimetre by 0.017."""


@dataclass(frozen=True)
class Stack:
    """Slices in order, and the geometry of the box they form."""

    order: tuple[int, ...]
    """Indices into the given slices, from the lowest along the normal to the highest."""
    shape_yx: tuple[int, int]
    spacing_zyx_mm: Point
    origin_xyz_mm: Point
    direction: Direction


def stack(places: Sequence[SlicePlace]) -> Stack:
    """Sort slices by position along their normal and refuse what is not a box.

    Raises:
        TooFewSlices, MixedSlices, DuplicatePosition, MissingSlice, UnevenSteps, TiltedStack, BrokenGeometry
    """
    if len(places) < FEWEST_SLICES:
        where = places[0].file if places else "no file"
        raise TooFewSlices(f"{len(places)} slices ({where}); a volume needs at least {FEWEST_SLICES}, leave it out")
    _refuse_mixed(places)
    axes = _axes(places[0])
    positions = np.array([place.position_xyz_mm for place in places])
    along = positions @ axes[:, 2]
    order = np.argsort(along, kind="stable")
    files = [places[i].file for i in order]
    step = _even_step(along[order], files)
    _refuse_tilt(positions[order], axes, files)
    first = places[int(order[0])]
    return Stack(
        order=tuple(order.tolist()),
        shape_yx=(first.rows, first.columns),
        spacing_zyx_mm=(step, *first.spacing_yx_mm),
        origin_xyz_mm=first.position_xyz_mm,
        direction=cast(Direction, tuple(tuple(row) for row in axes.tolist())),
    )


def _refuse_mixed(places: Sequence[SlicePlace]) -> None:
    _refuse_differing(places, "size", lambda p: (p.rows, p.columns), tolerance=0.0, relative=0.0)
    _refuse_differing(places, "pixel spacing (mm)", lambda p: p.spacing_yx_mm, tolerance=0.0, relative=SAME_SPACING)
    _refuse_differing(places, "orientation", lambda p: p.orientation, tolerance=SAME_DIRECTION, relative=0.0)


def _refuse_differing(
    places: Sequence[SlicePlace], what: str, of: Callable[[SlicePlace], Any], *, tolerance: float, relative: float
) -> None:
    values = np.array([of(place) for place in places], dtype=float)
    same = np.isclose(values, values[0], atol=tolerance, rtol=relative).all(axis=1)
    if not same.all():
        other = places[int(np.argmin(same))]
        raise MixedSlices(
            f"slices differ in {what}: {places[0].file} has {of(places[0])}, {other.file} has {of(other)}, "
            f"{np.count_nonzero(~same)} of {len(places)} like it; two series share one folder or uid, separate them"
        )


def _axes(place: SlicePlace) -> NDArray[np.float64]:
    """Columns: directions of X, Y and Z index. Z is the normal, so that the axes are right-handed."""
    x, y = np.array(place.orientation[:3]), np.array(place.orientation[3:])
    if abs(x @ x - 1) > ORTHONORMAL_TOLERANCE or abs(y @ y - 1) > ORTHONORMAL_TOLERANCE or abs(x @ y) > 1e-3:
        raise BrokenGeometry(
            f"{place.file}: ImageOrientationPatient {place.orientation} is not two unit vectors at right angles; "
            "export the series again"
        )
    return np.column_stack([x, y, np.cross(x, y)])


def _even_step(along_mm: NDArray[np.float64], files: Sequence[str]) -> float:
    """The slices' common distance. Each must lie where an even grid from the first to the last would put it."""
    steps = np.diff(along_mm)
    typical = float(np.sort(steps)[(len(steps) - 1) // 2])  # the lower median: gaps are the exception
    step = float(along_mm[-1] - along_mm[0]) / len(steps)
    off_grid = np.abs(along_mm - (along_mm[0] + step * np.arange(len(along_mm))))
    tolerance = max(STEP_TOLERANCE * step, min(ROUNDING_MM, step / 4))
    if step > 0 and off_grid.max() <= tolerance and steps.min() > SAME_POSITION * step:
        return step
    raise _uneven(steps, typical, files)


def _uneven(
    steps: NDArray[np.float64], typical: float, files: Sequence[str]
) -> DuplicatePosition | MissingSlice | UnevenSteps:
    """The name of what is wrong with uneven steps, and between which two slices it is worst."""
    same = int(np.argmin(steps))
    if typical <= 0 or steps[same] < SAME_POSITION * typical:
        return DuplicatePosition(
            f"{files[same]} and {files[same + 1]} are {steps[same]:.3f} mm apart, slices of this series typically "
            f"{typical:.3f} mm: two images of one position; keep one reconstruction or phase"
        )
    worst = int(np.argmax(np.abs(steps - typical)))
    ratio = float(steps[worst] / typical)
    between = f"{files[worst]} and {files[worst + 1]} are {steps[worst]:.3f} mm apart, the others {typical:.3f} mm"
    if ratio > 1.5 and abs(ratio - round(ratio)) < WHOLE_STEPS:
        return MissingSlice(f"{between}: {round(ratio) - 1} slices are missing between them; export the series again")
    return UnevenSteps(f"{between}: the steps are uneven; export a series with one slice distance, or leave it out")


def _refuse_tilt(positions_mm: NDArray[np.float64], axes: NDArray[np.float64], files: Sequence[str]) -> None:
    """Straight stacks only: sideways each slice begins where the first does."""
    sideways = (positions_mm - positions_mm[0]) @ axes[:, :2]
    shift = np.linalg.norm(sideways, axis=1)
    if (worst := int(np.argmax(shift))) and shift[worst] > SHIFT_MM:
        rise = abs(float((positions_mm[worst] - positions_mm[0]) @ axes[:, 2]))
        degrees = np.degrees(np.arctan2(shift[worst], rise))
        raise TiltedStack(
            f"{files[worst]} is shifted {shift[worst]:.2f} mm sideways against {files[0]} ({degrees:.1f}° of tilt): "
            "the slices form no upright box; leave the series out"
        )
