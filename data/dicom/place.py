"""Where a slice lies in the patient: what its header says, checked."""

from dataclasses import dataclass
from typing import cast

import numpy as np

from data.dicom.plane import Numbers, Plane
from data.errors import BrokenGeometry, MissingHeader, MissingPosition, MissingSpacing
from data.volume import ORTHONORMAL_TOLERANCE, Point

Orientation = tuple[float, float, float, float, float, float]


@dataclass(frozen=True, slots=True)
class SlicePlace:
    """Where one slice lies in the patient."""

    file: str
    rows: int
    columns: int
    spacing_yx_mm: tuple[float, float]
    """Distance of row centres, of column centres."""
    position_xyz_mm: Point
    """Centre of the first voxel."""
    orientation: Orientation
    """Directions of increasing column index, then of increasing row index; unit vectors at right angles."""


def place_of(plane: Plane) -> SlicePlace:
    """Where a slice lies.

    Raises:
        MissingPosition, MissingSpacing, MissingHeader: an element is absent, or has not as many numbers as it should.
        BrokenGeometry: directions or spacings that are none.
    """
    layout, name = plane.header.layout, plane.name
    if not layout.rows or not layout.columns:
        raise MissingHeader(f"{name}: Rows {layout.rows}, Columns {layout.columns}; export the series again")
    position = _numbers(plane.position_xyz_mm, 3, "ImagePositionPatient", name, MissingPosition)
    orientation = _numbers(plane.orientation, 6, "ImageOrientationPatient", name, MissingPosition)
    spacing = _numbers(plane.spacing_yx_mm, 2, "PixelSpacing", name, MissingSpacing)
    if min(spacing) <= 0:
        raise BrokenGeometry(f"{name}: PixelSpacing is {spacing} mm; positive lengths are needed, export it again")
    place = SlicePlace(
        file=name,
        rows=layout.rows,
        columns=layout.columns,
        spacing_yx_mm=cast(tuple[float, float], spacing),
        position_xyz_mm=cast(Point, position),
        orientation=cast(Orientation, orientation),
    )
    _refuse_skewed(place)
    return place


def _refuse_skewed(place: SlicePlace) -> None:
    x, y = np.array(place.orientation[:3]), np.array(place.orientation[3:])
    if not max(abs(x @ x - 1), abs(y @ y - 1), abs(x @ y)) <= ORTHONORMAL_TOLERANCE:
        raise BrokenGeometry(
            f"{place.file}: ImageOrientationPatient {place.orientation} is not two unit vectors at right angles; "
            "export the series again"
        )


def _numbers(
    found: Numbers | None, count: int, keyword: str, name: str, error: type[MissingPosition | MissingSpacing]
) -> Numbers:
    if found is None:
        raise error(f"{name}: no {keyword}; without it voxels have no place, export the series again")
    if len(found) != count:
        raise error(f"{name}: {keyword} is {found}; {count} numbers are needed, export the series again")
    return found
