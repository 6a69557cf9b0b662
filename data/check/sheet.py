"""A contact sheet: what a person must see to believe that scans and labels are right.

For a few scans three planes through a finding, in the patient's proportions and with letters for the patient's sides;
rings are labels near the plane. Below, crops as the network gets them, positives first. Scans are numbered as in the
list of the source; no name, id or file stands on the sheet.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from data.check.canvas import (
    FAINT,
    NEGATIVE,
    POSITIVE,
    Mark,
    Picture,
    column,
    framed,
    grey,
    line,
    marked,
    row,
)
from data.errors import PlaceError
from data.preprocess import Preprocess
from data.preprocess.orient import oriented
from data.samples import Candidate
from data.sources.source import Source
from data.statistics.sampling import Listed, listed
from data.statistics.site import shows_hounsfield
from data.statistics.vendors import known_vendor
from data.volume import CtVolume, Point

SIDE = 260
"""Pixels of the longer side of a plane."""
CROP_SIDE = 96
COLUMNS = 8
NEAR_MM = 4.0
"""Labels so near to a plane are drawn on it."""
RADIUS_MM = 8.0
"""Of a ring where a label has no diameter."""
COLOURS = (NEGATIVE, POSITIVE)
"""By label."""


@dataclass(frozen=True)
class _Plane:
    """How one of the three planes is seen: as radiologists do, the patient's right on the left."""

    name: str
    across: int
    """Axis to the right, down, and through the plane, of (z, y, x)."""
    down: int
    through: int
    is_upside_down: bool
    """Whether the axis down runs against the picture: heads are drawn above."""
    edges: str


PLANES = (
    _Plane("axial", across=2, down=1, through=0, is_upside_down=False, edges="RLAP"),
    _Plane("coronal", across=2, down=0, through=1, is_upside_down=True, edges="RLHF"),
    _Plane("sagittal", across=1, down=0, through=2, is_upside_down=True, edges="APHF"),
)


def contact_sheet(source: Source, preprocess: Preprocess, *, scans: int = 4, crops: int = 16) -> Picture:
    """The sheet of some scans (labelled ones first, of different scanners) and up to `crops` crops of either class.

    Raises ScanError where a scan cannot be read.
    """
    every = listed(source)
    chosen = _chosen(every, len(every) if source.resident else scans)
    parts: list[Picture] = []
    cut: tuple[list[Picture], list[Picture]] = ([], [])
    for scan in chosen:
        volume = oriented(source.read(scan.ref))
        if shows_hounsfield(preprocess):
            parts += [_caption(every.index(scan) + 1, len(every), scan, volume), _planes(volume, scan, preprocess)]
        _cut(cut, volume, scan, preprocess, most=crops)
        if source.resident and min(map(len, cut)) >= crops:
            break
    return column(
        [*parts, *_strip("positives (green)", cut[1]), *_strip("negatives (red)", cut[0])] or [line("no scan")]
    )


def _chosen(every: Sequence[Listed], most: int) -> list[Listed]:
    """Scans with positives first; one of each scanner before a second of any."""
    ordered = sorted(every, key=lambda scan: (not scan.positives, not scan.places))
    ranks: dict[str, int] = {}
    ranked = []
    for i, scan in enumerate(ordered):
        rank = ranks[scan.ref.scanner] = ranks.get(scan.ref.scanner, -1) + 1
        ranked.append(((not scan.positives, not scan.places, rank, i), scan))
    return [scan for _, scan in sorted(ranked, key=lambda pair: pair[0])[:most]]


def _caption(number: int, of: int, scan: Listed, volume: CtVolume) -> Picture:
    z, y, x = volume.spacing_zyx_mm
    slices, rows, columns = volume.hu_ZYX.shape
    labels = f"{scan.positives} positive, {len(scan.places) - scan.positives} negative"
    text = (
        f"scan {number} of {of}   {known_vendor(scan.ref.scanner)}   {slices} x {rows} x {columns} of "
        f"{z:.2f} x {y:.2f} x {x:.2f} mm   {labels}"
    )
    return line(text)


def _planes(volume: CtVolume, scan: Listed, preprocess: Preprocess) -> Picture:
    centre = max(scan.places, key=lambda place: (place.label, place.diameter_mm or 0.0), default=None)
    shape = volume.hu_ZYX.shape
    at = volume.world_to_voxel(centre.centre_xyz_mm) if centre else tuple(n / 2 for n in shape)
    inside = tuple(int(np.clip(round(v), 0, n - 1)) for v, n in zip(at, shape, strict=True))
    return row([_plane(volume, plane, inside[plane.through], scan.places, preprocess) for plane in PLANES])


def _plane(volume: CtVolume, plane: _Plane, index: int, places: Sequence[Candidate], preprocess: Preprocess) -> Picture:
    hu = np.take(volume.hu_ZYX, index, axis=plane.through)
    if plane.is_upside_down:
        hu = hu[::-1]
    extents = [volume.hu_ZYX.shape[axis] * volume.spacing_zyx_mm[axis] for axis in (plane.across, plane.down)]
    scale = SIDE / max(extents)
    width, height = (max(1, round(extent * scale)) for extent in extents)
    window = preprocess.window
    picture = grey(window.unit(window.clip(np.ascontiguousarray(hu))), (width, height))
    marks = [mark for place in places if (mark := _mark(volume, plane, index, place, scale)) is not None]
    return marked(picture, marks, plane.edges)


def _mark(volume: CtVolume, plane: _Plane, index: int, place: Candidate, scale: float) -> Mark | None:
    voxel = volume.world_to_voxel(place.centre_xyz_mm)
    if abs(voxel[plane.through] - index) * volume.spacing_zyx_mm[plane.through] > NEAR_MM:
        return None
    x, y = ((voxel[axis] + 0.5) * volume.spacing_zyx_mm[axis] * scale for axis in (plane.across, plane.down))
    if plane.is_upside_down:
        y = volume.hu_ZYX.shape[plane.down] * volume.spacing_zyx_mm[plane.down] * scale - y
    radius = (place.diameter_mm / 2 + 3.0 if place.diameter_mm else RADIUS_MM) * scale
    return Mark(x, y, max(radius, 4.0), COLOURS[place.label])


def _cut(
    cut: tuple[list[Picture], list[Picture]], volume: CtVolume, scan: Listed, preprocess: Preprocess, *, most: int
) -> None:
    """Add the middle slices of this scan's crops, as the network gets them."""
    if not scan.places:
        return
    prepared = preprocess.prepare(volume)
    for place in scan.places:
        if len(cut[place.label]) >= most:
            continue
        middle = _middle(prepared, place.centre_xyz_mm, preprocess)
        if middle is not None:
            cut[place.label].append(framed(middle, COLOURS[place.label]))


def _middle(prepared: CtVolume, centre_xyz_mm: Point, preprocess: Preprocess) -> Picture | None:
    try:
        x_ZYX = preprocess.crop(prepared, centre_xyz_mm)
    except PlaceError:
        return None
    return grey(x_ZYX[len(x_ZYX) // 2], (CROP_SIDE, CROP_SIDE))


def _strip(title: str, pictures: Sequence[Picture]) -> list[Picture]:
    said = f"{title}, middle slices as the network gets them" if pictures else f"no {title}"
    rows = [row(pictures[i : i + COLUMNS]) for i in range(0, len(pictures), COLUMNS)]
    return [line(said, colour=FAINT), *rows]
