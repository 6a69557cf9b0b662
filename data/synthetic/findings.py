"""Nodules, and what is taken for them: drawn in sizes, densities and places that do not tell one from the other.

A finding is a few strokes around its centre. Nodules are compact (solid, part-solid, spiculated, juxta-pleural);
mimics have the same diameter scale, densities and neighbourhood but are long or flat (vessels that cross or divide,
scars, pleural bumps). About half of either have vessels running through or past them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from data.synthetic.canvas import Canvas
from data.synthetic.shapes import Ellipsoid, Shape, Tube, attitude, unit
from data.volume import Point

Vector = NDArray[np.float64]

DIAMETER_MM = (3.2, 32.3)
"""As in LUNA16's annotations, whose mean is 8.31 mm."""
_LOG_ABOVE_SMALLEST = (1.27, 0.88)
"""Mean and standard deviation of log(diameter - smallest): fitted to LUNA16's quantiles (5.1, 6.4, 9.7 mm)."""
WALL_DEPTH = 0.65
"""How deep under the pleura the centre of a pleural finding lies, in radii; the same for nodules and bumps."""


@dataclass(frozen=True)
class Place:
    """Where a finding is to be drawn."""

    centre: Point
    diameter_mm: float
    outward: Vector
    """Direction of the nearest pleura."""


@dataclass(frozen=True)
class Stroke:
    """One shape of one density."""

    shape: Shape
    hu: float


@dataclass(frozen=True)
class Finding:
    """What is drawn at a place, and what it is."""

    kind: str
    label: int
    place: Place
    strokes: tuple[Stroke, ...]

    def paint(self, canvas: Canvas) -> None:
        for stroke in self.strokes:
            canvas.add_fine(stroke.shape, stroke.hu)


Draw = Callable[[Place, np.random.Generator], list[Stroke]]


def draw_diameter(rng: np.random.Generator) -> float:
    """A diameter in mm, distributed as LUNA16's."""
    smallest, largest = DIAMETER_MM
    while (diameter := smallest + rng.lognormal(*_LOG_ABOVE_SMALLEST)) > largest:
        pass
    return float(diameter)


def draw_finding(kind: str, place: Place, rng: np.random.Generator) -> Finding:
    """Draw a finding of a kind at a place; see `KINDS`."""
    label, draw = KINDS[kind]
    return Finding(kind, label, place, tuple(draw(place, rng)))


def draw_kind(shares: Mapping[str, float], diameter_mm: float, rng: np.random.Generator) -> str:
    """One of the kinds that come in this size, in their shares."""
    fit = {kind: share for kind, share in shares.items() if diameter_mm >= SMALLEST_MM.get(kind, 0.0)}
    weights = np.array(list(fit.values()))
    return str(rng.choice(list(fit), p=weights / weights.sum()))


def _solid(place: Place, rng: np.random.Generator) -> list[Stroke]:
    return [Stroke(_ball(place, rng), _density(rng)), *_companions(place, rng)]


def _part_solid(place: Place, rng: np.random.Generator) -> list[Stroke]:
    core = Place(place.centre, place.diameter_mm * rng.uniform(0.5, 0.75), place.outward)
    return [
        Stroke(_ball(place, rng), _haze(rng)),
        Stroke(_ball(core, rng), _density(rng)),
        *_companions(place, rng),
    ]


def _spiculated(place: Place, rng: np.random.Generator) -> list[Stroke]:
    radius, centre, hu = place.diameter_mm / 2, np.array(place.centre), _density(rng)
    spikes = []
    for _ in range(int(rng.integers(6, 13))):
        tip = centre + unit(rng) * radius * rng.uniform(1.4, 2.2)
        spikes.append(Stroke(Tube(place.centre, _point(tip), 0.25 * radius, 0.15), hu))
    return [Stroke(_ball(place, rng, 0.9), hu), *spikes, *_companions(place, rng)]


def _juxta_pleural(place: Place, rng: np.random.Generator) -> list[Stroke]:
    return [Stroke(_ball(place, rng), _density(rng)), *_companions(place, rng)]


def _crossing(place: Place, rng: np.random.Generator) -> list[Stroke]:
    """Two vessels that touch in passing, each straight through or slightly bent."""
    strokes = []
    for _ in range(2):
        radius = _vessel_radius(place, rng)
        middle = np.array(place.centre) + unit(rng) * 0.3 * radius
        along = unit(rng)
        for sign in (-1, 1):
            strokes += _vessel(middle, sign * along + 0.25 * unit(rng), radius, rng)
    return strokes + _hazy(place, rng)


def _junction(place: Place, rng: np.random.Generator) -> list[Stroke]:
    """One vessel that divides in two or three."""
    radius, trunk = _vessel_radius(place, rng), unit(rng)
    strokes = _vessel(np.array(place.centre), -trunk, 1.15 * radius, rng)
    for _ in range(int(rng.integers(2, 4))):
        strokes += _vessel(np.array(place.centre), trunk + 0.9 * unit(rng), 0.9 * radius, rng)
    return strokes + _hazy(place, rng)


def _scar(place: Place, rng: np.random.Generator) -> list[Stroke]:
    """A strand or a plate with the volume of a nodule of this diameter."""
    long = rng.uniform(2.6, 3.6)
    middle = rng.uniform(0.5, 0.65) if rng.random() < 0.5 else rng.uniform(1.1, 1.5)
    radius = place.diameter_mm / 2
    semi_axes = (long * radius, middle * radius, radius / (long * middle))
    shape = Ellipsoid(place.centre, semi_axes, attitude(rng), _knobs(rng, 0.15))
    return [Stroke(shape, _density(rng)), *_companions(place, rng), *_hazy(place, rng)]


def _pleural_bump(place: Place, rng: np.random.Generator) -> list[Stroke]:
    """A broad, shallow thickening of the pleura."""
    radius = place.diameter_mm / 2
    wall = np.array(place.centre) + WALL_DEPTH * radius * place.outward
    semi_axes = (rng.uniform(0.75, 1.0) * radius, rng.uniform(2.0, 2.8) * radius, rng.uniform(2.0, 2.8) * radius)
    shape = Ellipsoid(_point(wall), semi_axes, attitude(rng, place.outward), _knobs(rng, 0.1))
    return [Stroke(shape, _density(rng)), *_companions(place, rng)]


KINDS: Mapping[str, tuple[int, Draw]] = {
    "solid": (1, _solid),
    "part-solid": (1, _part_solid),
    "spiculated": (1, _spiculated),
    "juxta-pleural": (1, _juxta_pleural),
    "crossing": (0, _crossing),
    "junction": (0, _junction),
    "scar": (0, _scar),
    "pleural-bump": (0, _pleural_bump),
}
"""Kind → label, and how it is drawn."""

AT_PLEURA = frozenset({"juxta-pleural", "pleural-bump"})
NODULES: Mapping[str, float] = {"solid": 0.45, "part-solid": 0.15, "spiculated": 0.2, "juxta-pleural": 0.2}
MIMICS: Mapping[str, float] = {"crossing": 0.3, "junction": 0.2, "scar": 0.3, "pleural-bump": 0.2}
"""How often each kind is drawn; nodules and mimics lie at the pleura equally often."""
SMALLEST_MM: Mapping[str, float] = {"part-solid": 6.0}
"""Smaller ones are not told apart by readers either: Fleischner 2017 follows part-solid nodules from 6 mm."""


def _ball(place: Place, rng: np.random.Generator, size: float = 1.0) -> Ellipsoid:
    """Roughly round and a little lobulated, of the place's diameter."""
    a, b = rng.uniform(0.85, 1.15, 2)
    radius = size * place.diameter_mm / 2
    return Ellipsoid(place.centre, (a * radius, b * radius, radius / (a * b)), attitude(rng), _knobs(rng, 0.2))


def _knobs(rng: np.random.Generator, height: float) -> NDArray[np.float64]:
    return np.array([[*unit(rng), rng.uniform(-height, height)] for _ in range(4)])


def _density(rng: np.random.Generator) -> float:
    """HU of solid tissue: of a nodule, a vessel or a scar alike."""
    return float(rng.normal(30, 30))


def _haze(rng: np.random.Generator) -> float:
    """HU of ground glass."""
    return float(rng.uniform(-600, -350))


def _hazy(place: Place, rng: np.random.Generator) -> list[Stroke]:
    """Ground glass around some mimics, as around part-solid nodules."""
    return [Stroke(_ball(place, rng), _haze(rng))] if rng.random() < 0.15 else []


def _companions(place: Place, rng: np.random.Generator) -> list[Stroke]:
    """Vessels that run through or close by, as they do everywhere in a lung."""
    strokes = []
    for _ in range(int(rng.integers(0, 2))):
        radius = rng.uniform(0.4, 0.9)
        along, beside = attitude(rng)[:2]
        middle = np.array(place.centre) + beside * rng.uniform(0, 0.5 * place.diameter_mm + radius)
        for sign in (-1, 1):
            strokes += _vessel(middle, sign * along + 0.25 * unit(rng), radius, rng)
    return strokes


def _vessel_radius(place: Place, rng: np.random.Generator) -> float:
    return float(np.clip(rng.uniform(0.17, 0.25) * place.diameter_mm, 0.75, 3.5))


def _vessel(start: Vector, towards: Vector, radius: float, rng: np.random.Generator) -> list[Stroke]:
    """A tapering vessel of two pieces, some 20 mm long."""
    hu, strokes = _density(rng), []
    for taper in (0.8, 0.55):
        towards = towards / np.linalg.norm(towards) + 0.2 * unit(rng)
        end = start + towards * rng.uniform(7, 12)
        strokes.append(Stroke(Tube(_point(start), _point(end), radius, taper * radius), hu))
        start, radius = end, taper * radius
    return strokes


def _point(vector: Vector) -> Point:
    return float(vector[0]), float(vector[1]), float(vector[2])
