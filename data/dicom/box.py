"""Do the slices of a stack form a box? Sort them, and say no by name.

SimpleITK and MONAI read any set of slices and average their distances: a missing slice shifts every coordinate behind
it. Here a set of slices is a box, with an exact place for every voxel, or an error that says what is wrong.

Two kinds of stacks are no boxes and can be made one. A tilted gantry shifts each slice sideways against the one below:
their places are known exactly, and a shear inside the slices' planes sets them right (`data.dicom.shear`). Missing
slices and uneven steps can be interpolated (`data.dicom.level`), which invents what was not measured: only where asked.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from data.dicom.place import SlicePlace
from data.errors import (
    DuplicatePosition,
    MissingSlice,
    MixedSlices,
    NotAVolume,
    TiltedStack,
    TooFewSlices,
    UnevenSteps,
)
from data.volume import Direction, Point

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

LARGEST_GAP = 4.0
"""Typical steps: three slices missing in a row. Wider gaps are not interpolated, even where interpolation is asked."""

SAME_DIRECTION = 1e-4
"""Largest difference of direction cosines inside a stack; over 512 voxels of 1 mm it moves the last by 0.05 mm."""

SAME_SPACING = 1e-4
"""Relative difference of pixel spacings inside a stack."""

SHIFT_MM = 0.1
"""Largest sideways shift of a slice against a straight stack, upright or tilted; a gantry tilt of 1° shifts each
millimetre by 0.017."""

LARGEST_TILT = 45.0
"""Degrees. Gantries tilt by 30; what leans further is no tilted gantry."""


@dataclass(frozen=True, eq=False)
class Box:
    """Slices in order, and the geometry of the box they form."""

    order: tuple[int, ...]
    """Indices into the given slices, from the lowest along the normal to the highest."""
    shape_yx: tuple[int, int]
    spacing_zyx_mm: Point
    origin_xyz_mm: Point
    """Centre of the first voxel of the lowest slice."""
    direction: Direction
    shifts_yx: NDArray[np.float64] | None = None
    """How far each slice must be shifted inside its plane, in pixels (slices, 2); None: not at all."""
    heights: NDArray[np.float64] | None = None
    """Where along the normal each slice lies, in steps from the lowest; None: 0, 1, 2, …"""
    remarks: tuple[str, ...] = ()
    """What will be done to the voxels, in words."""


def box_of(places: Sequence[SlicePlace], *, resample: bool = False) -> Box:
    """Sort slices by position along their normal and refuse what is no box.

    Args:
        places: the slices, in any order.
        resample: whether missing slices and uneven steps may be interpolated.

    Raises:
        TooFewSlices, MixedSlices, DuplicatePosition, MissingSlice, UnevenSteps, TiltedStack
    """
    if len(places) < FEWEST_SLICES:
        where = places[0].file if places else "no file"
        raise TooFewSlices(f"{len(places)} slices ({where}); a volume needs at least {FEWEST_SLICES}, leave it out")
    _refuse_mixed(places)
    axes = _axes(places[0])
    positions = np.array([place.position_xyz_mm for place in places])
    order = np.argsort(positions @ axes[:, 2], kind="stable")
    first, files = places[int(order[0])], [places[i].file for i in order]
    along = (positions[order] - positions[order[0]]) @ axes
    box = Box(
        order=tuple(order.tolist()),
        shape_yx=(first.rows, first.columns),
        spacing_zyx_mm=(1.0, *first.spacing_yx_mm),
        origin_xyz_mm=first.position_xyz_mm,
        direction=cast(Direction, tuple(tuple(row) for row in axes.tolist())),
    )
    return _upright(_level(box, along[:, 2], files, resample=resample), along, files)


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
    return np.column_stack([x, y, np.cross(x, y)])


def _level(box: Box, heights_mm: NDArray[np.float64], files: Sequence[str], *, resample: bool) -> Box:
    """The box with its slice distance. Each slice must lie where an even grid from first to last would put it."""
    count = len(heights_mm) - 1
    step = float(heights_mm[-1]) / count
    off_grid = np.abs(heights_mm - step * np.arange(count + 1))
    steps = np.diff(heights_mm)
    is_even = step > 0 and off_grid.max() <= max(STEP_TOLERANCE * step, min(ROUNDING_MM, step / 4))
    if is_even and steps.min() > SAME_POSITION * step:
        return replace(box, spacing_zyx_mm=(step, *box.spacing_zyx_mm[1:]))
    # The lower median: gaps are the exception.
    typical = float(np.sort(steps)[(count - 1) // 2])
    fault = _uneven(steps, typical, files)
    if not resample or isinstance(fault, DuplicatePosition) or steps.max() > (LARGEST_GAP + WHOLE_STEPS) * typical:
        raise fault
    return _levelled(box, heights_mm, typical, fault)


def _levelled(box: Box, heights_mm: NDArray[np.float64], typical: float, fault: NotAVolume) -> Box:
    """The box that interpolation will make: even steps, as near to the typical one as the ends allow."""
    count = round(float(heights_mm[-1]) / typical)
    step = float(heights_mm[-1]) / count
    if isinstance(fault, MissingSlice):
        remark = f"{count + 1 - len(heights_mm)} missing slices interpolated"
    else:
        steps = np.diff(heights_mm)
        remark = f"uneven steps of {steps.min():.3f} to {steps.max():.3f} mm interpolated to {step:.3f} mm"
    return replace(
        box,
        spacing_zyx_mm=(step, *box.spacing_zyx_mm[1:]),
        heights=heights_mm / step,
        remarks=(*box.remarks, remark),
    )


def _uneven(
    steps: NDArray[np.float64], typical: float, files: Sequence[str]
) -> DuplicatePosition | MissingSlice | UnevenSteps:
    """The name of what is wrong with uneven steps, and between which two slices it is worst."""
    same = int(np.argmin(steps))
    if typical <= 0 or steps[same] < SAME_POSITION * typical:
        copies = np.count_nonzero(steps <= max(SAME_POSITION * typical, steps[same]))
        return DuplicatePosition(
            f"{files[same]} and {files[same + 1]} lie at one position, {steps[same]:.3f} mm apart, and so do {copies} "
            f"of {len(steps)} neighbours in this series; keep one reconstruction or phase"
        )
    worst = int(np.argmax(np.abs(steps - typical)))
    ratio = float(steps[worst] / typical)
    between = f"{files[worst]} and {files[worst + 1]} are {steps[worst]:.3f} mm apart, the others {typical:.3f} mm"
    if ratio > 1.5 and abs(ratio - round(ratio)) < WHOLE_STEPS:
        missing = "1 slice is" if ratio < 2.5 else f"{round(ratio) - 1} slices are"
        return MissingSlice(
            f"{between}: {missing} missing between them; export the series again, or let "
            "on_problem: resample interpolate them"
        )
    return UnevenSteps(
        f"{between}: the steps are uneven; export a series with one slice distance, or let on_problem: resample "
        "interpolate it"
    )


def _upright(box: Box, along: NDArray[np.float64], files: Sequence[str]) -> Box:
    """The box with its tilt. Sideways each slice begins where the first does, or leans as a tilted gantry has it."""
    sideways, heights = along[:, :2], along[:, 2]
    if np.linalg.norm(sideways, axis=1).max() <= SHIFT_MM:
        return box
    lean = sideways[-1] / heights[-1]
    degrees = float(np.degrees(np.arctan(np.linalg.norm(lean))))
    off_line = np.linalg.norm(sideways - np.outer(heights, lean), axis=1)
    if (worst := int(np.argmax(off_line))) and off_line[worst] > SHIFT_MM:
        raise TiltedStack(
            f"{files[worst]} lies {off_line[worst]:.2f} mm beside the line from {files[0]} to {files[-1]}: its slices "
            "are shifted against each other as no tilted gantry shifts them; leave the series out"
        )
    if degrees > LARGEST_TILT:
        raise TiltedStack(
            f"{files[-1]} is shifted {np.linalg.norm(sideways[-1]):.1f} mm sideways against {files[0]}, {degrees:.1f}° "
            "of tilt; no gantry tilts so far, export the series again or leave it out"
        )
    shifts_yx = sideways[:, ::-1] / np.array(box.spacing_zyx_mm[1:])
    return replace(box, shifts_yx=shifts_yx, remarks=(*box.remarks, f"gantry tilt of {degrees:.1f}° sheared upright"))
