"""Markings of several readers → nodules: which markings mean the same thing, where it lies, how large it is.

LUNA16's rule: markings of different readers that lie closer to each other than the sum of their radii are one nodule;
its place and diameter are their means. Kept are nodules that at least three of four readers outlined, which they did
from 3 mm on. Source: Setio et al. 2017, "Validation, comparison, and combination of algorithms for automatic detection
of pulmonary nodules in computed tomography images: the LUNA16 challenge", section 2.
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from data.errors import BadReading
from data.lidc.readings import Marking, Outline, Reading
from data.volume import Point

READERS = 3
"""Of four."""
SMALLEST_MM = 3.0


class Slice(Protocol):
    """Where a slice lies in the patient (`data.dicom.place.SlicePlace`)."""

    @property
    def spacing_yx_mm(self) -> tuple[float, float]: ...
    @property
    def position_xyz_mm(self) -> Point: ...
    @property
    def orientation(self) -> tuple[float, float, float, float, float, float]: ...


@dataclass(frozen=True)
class Nodule:
    """What readers agree on."""

    centre_xyz_mm: Point
    diameter_mm: float
    """Of the ball of the same volume; mean over readers."""
    readers: int
    malignancy: float | None
    """Median of the ratings, 1 to 5; None where nobody rated it."""


@dataclass(frozen=True)
class _Body:
    """One marking in the patient."""

    reader: int
    centre_xyz_mm: Point
    diameter_mm: float
    malignancy: int | None


def nodules_of(
    reading: Reading,
    slices: Mapping[str, Slice],
    *,
    thickness_mm: float,
    readers: int = READERS,
    smallest_mm: float = SMALLEST_MM,
) -> list[Nodule]:
    """Nodules that at least `readers` outlined and that measure `smallest_mm`, from the feet upwards.

    Args:
        reading: the markings.
        slices: the scan's slices by SOPInstanceUID.
        thickness_mm: distance of slices.
        readers: how many must have outlined it.
        smallest_mm: least mean diameter.

    Raises:
        BadReading: a marking on a slice that is not in the scan.
    """
    bodies = [_body(marking, slices, thickness_mm, reading.series_uid) for marking in reading.markings]
    found = [_agreed(group) for group in _grouped(bodies) if len({body.reader for body in group}) >= readers]
    kept = [nodule for nodule in found if nodule.diameter_mm >= smallest_mm]
    return sorted(kept, key=lambda nodule: nodule.centre_xyz_mm[::-1])


def _body(marking: Marking, slices: Mapping[str, Slice], thickness_mm: float, series_uid: str) -> _Body:
    areas, centres = [], []
    for outline in marking.outlines:
        if outline.slice_uid not in slices:
            raise BadReading(
                f"series {series_uid}: a reader outlined a nodule on slice {outline.slice_uid}, which is not in the "
                "scan; export the series again, whole"
            )
        area_mm2, centre = _area_and_centre(outline, slices[outline.slice_uid])
        areas.append(area_mm2 if outline.is_inclusion else -area_mm2)
        centres.append(centre)
    # A ring so thin that nothing is inside still marks a place.
    weights = np.maximum(np.array(areas), 1e-6 if max(areas) <= 0 else 0.0)
    x, y, z = np.average(np.array(centres), axis=0, weights=weights).tolist()
    volume_mm3 = max(sum(areas), 0.0) * thickness_mm
    return _Body(marking.reader, (x, y, z), (6 * volume_mm3 / math.pi) ** (1 / 3), marking.malignancy)


def _area_and_centre(outline: Outline, place: Slice) -> tuple[float, NDArray[np.float64]]:
    """mm² inside the ring of pixels, and its middle in the patient."""
    points = outline.points_xy.astype(float)
    row_mm, column_mm = place.spacing_yx_mm
    middle = _middle(points)
    across, down = np.array(place.orientation).reshape(2, 3)
    centre = np.array(place.position_xyz_mm) + middle[0] * column_mm * across + middle[1] * row_mm * down
    return _pixels_inside(points) * row_mm * column_mm, centre


def _pixels_inside(points_xy: NDArray[np.float64]) -> float:
    """How many pixels lie inside a ring of pixels, not on it (Pick 1899: inside = area − border / 2 + 1)."""
    if len(points_xy) < 3:
        return 0.0
    following = np.roll(points_xy, -1, axis=0)
    steps = np.abs(following - points_xy).astype(int)
    border = int(np.gcd(steps[:, 0], steps[:, 1]).sum())
    return max(abs(_doubled_area(points_xy, following)) / 2 - border / 2 + 1, 0.0)


def _middle(points_xy: NDArray[np.float64]) -> NDArray[np.float64]:
    """Centroid of the polygon; mean of its points where it has no area."""
    following = np.roll(points_xy, -1, axis=0)
    doubled = _doubled_area(points_xy, following)
    if len(points_xy) < 3 or doubled == 0:
        return np.asarray(points_xy.mean(axis=0))
    cross = points_xy[:, 0] * following[:, 1] - following[:, 0] * points_xy[:, 1]
    return np.asarray(((points_xy + following) * cross[:, None]).sum(axis=0) / (3 * doubled))


def _doubled_area(points_xy: NDArray[np.float64], following: NDArray[np.float64]) -> float:
    return float((points_xy[:, 0] * following[:, 1] - following[:, 0] * points_xy[:, 1]).sum())


def _grouped(bodies: Sequence[_Body]) -> list[list[_Body]]:
    """Markings that mean the same, directly or through others."""
    groups: list[list[_Body]] = []
    for body in bodies:
        near = [group for group in groups if any(_is_same(body, other) for other in group)]
        groups = [group for group in groups if group not in near]
        groups.append([body, *(other for group in near for other in group)])
    return groups


def _is_same(a: _Body, b: _Body) -> bool:
    return math.dist(a.centre_xyz_mm, b.centre_xyz_mm) < (a.diameter_mm + b.diameter_mm) / 2


def _agreed(group: Sequence[_Body]) -> Nodule:
    x, y, z = np.mean([body.centre_xyz_mm for body in group], axis=0).tolist()
    rated = [body.malignancy for body in group if body.malignancy is not None]
    return Nodule(
        centre_xyz_mm=(x, y, z),
        diameter_mm=statistics.fmean(body.diameter_mm for body in group),
        readers=len({body.reader for body in group}),
        malignancy=float(statistics.median(rated)) if rated else None,
    )
