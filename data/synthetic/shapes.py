"""Solids in patient space, told by their signed distance: negative inside, in mm.

A shape answers two questions: where it lies (`bounds`) and how far a point is from its surface (`distance`).
Points come as broadcastable x, y and z arrays in mm, so that a box of voxels costs three short axes.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from data.volume import Point

Mm = NDArray[np.float32]
"""Millimetres, float32."""


class Shape(Protocol):
    """A solid."""

    def bounds(self) -> tuple[Point, Point]:
        """Lowest and highest corner of a box around it."""

    def distance(self, x: Mm, y: Mm, z: Mm) -> Mm:
        """Signed distance to the surface; exact at the surface, approximate far from it."""


@dataclass(frozen=True)
class Tube:
    """A round cone with rounded ends: a piece of vessel, a spicule."""

    start: Point
    end: Point
    start_radius_mm: float
    end_radius_mm: float

    def bounds(self) -> tuple[Point, Point]:
        corners = np.sort(np.array([self.start, self.end]), axis=0)
        reach = max(self.start_radius_mm, self.end_radius_mm)
        return _box(corners[0] - reach, corners[1] + reach)

    def distance(self, x: Mm, y: Mm, z: Mm) -> Mm:
        (ax, ay, az), (bx, by, bz) = self.start, self.end
        dx, dy, dz = bx - ax, by - ay, bz - az
        px, py, pz = x - ax, y - ay, z - az
        length2 = max(dx * dx + dy * dy + dz * dz, 1e-6)
        along = np.clip((px * dx + py * dy + pz * dz) / length2, 0.0, 1.0)
        away: Mm = np.sqrt((px - along * dx) ** 2 + (py - along * dy) ** 2 + (pz - along * dz) ** 2)
        away -= self.start_radius_mm + along * (self.end_radius_mm - self.start_radius_mm)
        return away


@dataclass(frozen=True, eq=False)
class Ellipsoid:
    """An ellipsoid in any attitude, its surface smooth or knobbly."""

    centre: Point
    semi_axes_mm: tuple[float, float, float]
    rotation: NDArray[np.float64] | None = None
    """Rows are the directions of the semi-axes; None: along x, y and z."""
    knobs: NDArray[np.float64] | None = None
    """(N, 4): a direction and how far the surface bulges there, as a share of the radius."""

    def bounds(self) -> tuple[Point, Point]:
        bulge = 1.0 if self.knobs is None else 1.0 + float(np.clip(self.knobs[:, 3], 0.0, None).sum())
        axes = np.eye(3) if self.rotation is None else self.rotation
        reach = np.sqrt(((axes * np.array(self.semi_axes_mm)[:, None]) ** 2).sum(axis=0)) * bulge
        return _box(np.array(self.centre) - reach, np.array(self.centre) + reach)

    def distance(self, x: Mm, y: Mm, z: Mm) -> Mm:
        u, v, w = self._local(x, y, z)
        a, b, c = self.semi_axes_mm
        scaled = np.sqrt((u / a) ** 2 + (v / b) ** 2 + (w / c) ** 2)
        slope = np.sqrt((u / (a * a)) ** 2 + (v / (b * b)) ** 2 + (w / (c * c)) ** 2)
        level = scaled - self._radius(u / a, v / b, w / c, scaled)
        # First-order distance to a level set; at the very centre, where the slope is 0, the shortest axis.
        return np.where(scaled > 1e-3, level * scaled / np.maximum(slope, 1e-6), -min(a, b, c)).astype(np.float32)

    def _local(self, x: Mm, y: Mm, z: Mm) -> tuple[Mm, Mm, Mm]:
        px, py, pz = x - self.centre[0], y - self.centre[1], z - self.centre[2]
        if self.rotation is None:
            return px, py, pz
        u, v, w = (row[0] * px + row[1] * py + row[2] * pz for row in self.rotation.astype(np.float32))
        return u, v, w

    def _radius(self, u: Mm, v: Mm, w: Mm, scaled: Mm) -> Mm | float:
        if self.knobs is None:
            return 1.0
        radius: Mm = np.ones_like(scaled)
        for nx, ny, nz, height in self.knobs.astype(np.float32):
            towards = (u * nx + v * ny + w * nz) / np.maximum(scaled, 1e-3)
            radius += height * np.clip(towards, 0.0, None) ** 4
        return radius


def unit(rng: np.random.Generator) -> NDArray[np.float64]:
    """A direction, uniform on the sphere."""
    vector = rng.standard_normal(3)
    return vector / np.linalg.norm(vector)


def attitude(rng: np.random.Generator, first: NDArray[np.float64] | None = None) -> NDArray[np.float64]:
    """Three perpendicular directions as rows; random but for the first, where it is given."""
    a = unit(rng) if first is None else first / np.linalg.norm(first)
    b = np.cross(a, unit(rng))
    b /= np.linalg.norm(b)
    return np.stack([a, b, np.cross(a, b)])


def _box(low: NDArray[np.float64], high: NDArray[np.float64]) -> tuple[Point, Point]:
    return (float(low[0]), float(low[1]), float(low[2])), (float(high[0]), float(high[1]), float(high[2]))
