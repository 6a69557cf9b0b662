"""A patient: a thorax phantom with nodules and their mimics, as a given scanner would show it.

In:  a `Scanner`, the `Frame` to be scanned and a random generator; nothing else decides the patient.
Out: `Patient`: `CtVolume` (int16 HU, LPS) and the candidates in it, nodules (label 1) and mimics (label 0).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from data.errors import BadSetting
from data.samples import Candidate
from data.synthetic.canvas import Canvas, Grid
from data.synthetic.findings import (
    AT_PLEURA,
    MIMICS,
    NODULES,
    WALL_DEPTH,
    Finding,
    Place,
    draw_diameter,
    draw_finding,
    draw_kind,
)
from data.synthetic.scanners import Scanner
from data.synthetic.thorax import Thorax, draw_thorax, paint_thorax
from data.synthetic.threads import paint_branches
from data.synthetic.vessels import INSIDE_MM, PLACE_MM3, Branches, grow
from data.volume import CtVolume, Point

FULL_CHEST_MM = 250.0
"""A field of view at least this wide shows an adult's whole chest; one that is smaller shows a smaller person, and
below `ONE_LUNG_MM` a part of one lung, as radiologists order it for a second look."""
ONE_LUNG_MM = 170.0
LOWEST_MM, HIGHEST_MM = 15.0, 190.0
"""Levels of the chest between which scans lie (see `thorax`)."""
APART_MM = 20.0
"""Gap between the surfaces of two findings."""
CLEAR_MM = 10.0
"""Findings that are not pleural keep this far from the pleura (very large ones come nearer)."""
EDGE_MM = 7.0
"""Findings keep this far from the edge of the scan."""
AROUND_MM = 12.0
"""Vessels are grown this far around the scan."""
_TRIES = 4096


@dataclass(frozen=True)
class Frame:
    """What part of the patient is scanned, and how finely."""

    matrix: int = 160
    """Rows and columns of a slice."""
    field_of_view_mm: float = 215.0
    length_mm: float = 96.0
    """From the first slice to the last, along the body."""
    candidates: int = 12
    """Findings a patient, on average; about half of them nodules."""

    def __post_init__(self) -> None:
        if self.matrix < 16 or self.candidates < 2:
            raise BadSetting(f"matrix {self.matrix} and candidates {self.candidates}; at least 16 and 2 are needed")
        if not 60 <= self.field_of_view_mm <= 500 or not 30 <= self.length_mm <= 170:
            raise BadSetting(
                f"field of view {self.field_of_view_mm:g} mm and length {self.length_mm:g} mm; "
                "a chest is scanned within 60 to 500 mm and 30 to 170 mm"
            )


@dataclass(frozen=True, eq=False)
class Patient:
    """One scan and what is to be told apart in it."""

    volume: CtVolume
    candidates: tuple[Candidate, ...]
    kinds: tuple[str, ...]
    """What each candidate is, by the names of `findings.KINDS`."""


def draw_patient(scanner: Scanner, frame: Frame, rng: np.random.Generator) -> Patient:
    """Draw a patient and scan them: everything comes from `rng`."""
    thorax = draw_thorax(rng, scale=np.clip(frame.field_of_view_mm / FULL_CHEST_MM, 0.75, 1.0))
    grid = _grid(scanner, frame, thorax, rng)
    canvas = Canvas(grid, np.empty(grid.shape_zyx, np.float32))
    paint_thorax(canvas, thorax, rng)
    paint_branches(canvas, _vessels(thorax, grid, rng), thorax.blood_hu)
    findings = _draw_findings(thorax, grid, frame, rng)
    for finding in findings:
        finding.paint(canvas)
    table_xyz_mm = rng.uniform((-8, -190, -420), (8, -150, -180))
    return Patient(
        volume=CtVolume(
            hu_ZYX=scanner.acquire(canvas.hu_ZYX, grid.spacing_zyx_mm, rng),
            spacing_zyx_mm=grid.spacing_zyx_mm,
            origin_xyz_mm=_moved(grid.origin_xyz_mm, table_xyz_mm),
        ),
        candidates=tuple(_candidate(finding, table_xyz_mm, rng) for finding in findings),
        kinds=tuple(finding.kind for finding in findings),
    )


def _grid(scanner: Scanner, frame: Frame, thorax: Thorax, rng: np.random.Generator) -> Grid:
    pixel = round(frame.field_of_view_mm / frame.matrix * rng.uniform(0.95, 1.03), 4)
    slices = max(2, round(frame.length_mm / scanner.slice_mm))
    bottom = rng.uniform(LOWEST_MM, max(LOWEST_MM + 1, HIGHEST_MM - frame.length_mm / thorax.scale)) * thorax.scale
    aside = 0.0
    if frame.field_of_view_mm < ONE_LUNG_MM:
        aside = rng.choice((-1, 1)) * 72 * thorax.scale
    half = pixel * (frame.matrix - 1) / 2
    origin = (round(aside + rng.uniform(-6, 6) - half, 3), round(rng.uniform(-6, 6) - half, 3), round(bottom, 3))
    return Grid((slices, frame.matrix, frame.matrix), (scanner.slice_mm, pixel, pixel), origin)


def _vessels(thorax: Thorax, grid: Grid, rng: np.random.Generator) -> Branches:
    """Vessels for all lung in the scan and a little around it, from both hila."""
    low = np.array(grid.origin_xyz_mm) - AROUND_MM
    high = low + np.array(grid.spacing_zyx_mm[::-1]) * grid.shape_zyx[::-1] + 2 * AROUND_MM
    places = rng.uniform(low, high, (int(np.prod(high - low) / PLACE_MM3), 3))
    hila = np.array([(-34.0, 4.0, 92.0), (34.0, 4.0, 92.0)]) * thorax.scale
    return grow(places[thorax.at(places) < -INSIDE_MM], hila, rng)


def _draw_findings(thorax: Thorax, grid: Grid, frame: Frame, rng: np.random.Generator) -> list[Finding]:
    """Findings that do not touch, large ones placed first; fewer than wished where the lungs are full."""
    count = int(rng.integers(max(2, frame.candidates - 3), frame.candidates + 4))
    nodules = int(np.clip(rng.binomial(count, 0.5), 1, count - 1))
    diameters = [draw_diameter(rng) for _ in range(count)]
    kinds = [draw_kind(NODULES if i < nodules else MIMICS, diameter, rng) for i, diameter in enumerate(diameters)]
    points = _points(grid, rng)
    depths = -thorax.at(points)
    findings: list[Finding] = []
    for i in np.argsort(diameters)[::-1]:
        place = _place(thorax, points, depths, diameters[i], findings, at_pleura=kinds[i] in AT_PLEURA)
        if place is not None:
            findings.append(draw_finding(kinds[i], place, rng))
    return [findings[i] for i in rng.permutation(len(findings))]


def _points(grid: Grid, rng: np.random.Generator) -> NDArray[np.float64]:
    """Random points (N, 3) inside the round field of view, away from its edge."""
    (nz, ny, _), (dz, dy, _) = grid.shape_zyx, grid.spacing_zyx_mm
    radius, length = dy * ny / 2 - EDGE_MM, dz * (nz - 1)
    unit_disc = rng.uniform(-1, 1, (_TRIES, 2))
    unit_disc = unit_disc[np.hypot(*unit_disc.T) < 1]
    centre = np.array(grid.origin_xyz_mm[:2]) + dy * (ny - 1) / 2
    heights = grid.origin_xyz_mm[2] + rng.uniform(EDGE_MM, length - EDGE_MM, len(unit_disc))
    return np.column_stack([centre + radius * unit_disc, heights])


def _place(
    thorax: Thorax,
    points: NDArray[np.float64],
    depths: NDArray[np.float64],
    diameter_mm: float,
    taken: list[Finding],
    *,
    at_pleura: bool,
) -> Place | None:
    """The first of the points where a finding fits; None where none does."""
    radius = diameter_mm / 2
    fits = np.abs(depths - WALL_DEPTH * radius) < 4 if at_pleura else depths > min(radius, 12.0) + CLEAR_MM
    for other in taken:
        far = radius + other.place.diameter_mm / 2 + APART_MM
        fits &= np.linalg.norm(points - np.array(other.place.centre), axis=1) > far
    if not fits.any():
        return None
    first = int(np.argmax(fits))
    outward = thorax.outward(points[first])
    centre = points[first] + outward * (depths[first] - WALL_DEPTH * radius if at_pleura else 0.0)
    return Place((float(centre[0]), float(centre[1]), float(centre[2])), diameter_mm, outward)


def _candidate(finding: Finding, table_xyz_mm: NDArray[np.float64], rng: np.random.Generator) -> Candidate:
    """As a reader marks it: off the true centre by a fraction of the size, and not more exact than 0.01 mm."""
    place = finding.place
    miss = rng.normal(0, 0.2 + 0.03 * place.diameter_mm, 3)
    x, y, z = np.round(np.array(_moved(place.centre, table_xyz_mm)) + miss, 2)
    diameter = round(place.diameter_mm, 2) if finding.label else None
    return Candidate((float(x), float(y), float(z)), finding.label, diameter)


def _moved(point: Point, by_xyz_mm: NDArray[np.float64]) -> Point:
    x, y, z = np.round(np.array(point) + by_xyz_mm, 4)
    return float(x), float(y), float(z)
