"""A grid of voxels on which shapes are painted, each voxel by the share of it that the shape fills."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from data.synthetic.shapes import Mm, Shape
from data.volume import Point

Window = tuple[slice, slice, slice]

FINEST_MM = 0.75
"""Side of the sub-voxels by which small shapes are averaged: a 3 mm nodule spans four."""


@dataclass(frozen=True)
class Grid:
    """Where voxels lie: axial, axes along x, y and z."""

    shape_zyx: tuple[int, int, int]
    spacing_zyx_mm: tuple[float, float, float]
    origin_xyz_mm: Point
    """Centre of voxel (0, 0, 0)."""

    @cached_property
    def axes(self) -> tuple[Mm, Mm, Mm]:
        """Voxel centres along x, y and z, shaped to broadcast to (Z, Y, X)."""
        return self.axes_of((slice(0, self.shape_zyx[0]), slice(0, self.shape_zyx[1]), slice(0, self.shape_zyx[2])))

    def axes_of(self, window: Window, parts_zyx: tuple[int, int, int] = (1, 1, 1)) -> tuple[Mm, Mm, Mm]:
        """Centres of a window's voxels, each divided into `parts`, along x, y and z."""
        z, y, x = (
            self._centres(window[axis], self.spacing_zyx_mm[axis], self.origin_xyz_mm[2 - axis], parts_zyx[axis])
            for axis in range(3)
        )
        return x[None, None, :], y[None, :, None], z[:, None, None]

    def window(self, low: Point, high: Point) -> Window:
        """The voxels that a box touches; empty where it lies outside."""
        spans = []
        for axis in range(3):
            step, first = self.spacing_zyx_mm[axis], self.origin_xyz_mm[2 - axis]
            start = int(np.floor((low[2 - axis] - first) / step))
            stop = int(np.ceil((high[2 - axis] - first) / step)) + 1
            spans.append(slice(max(start, 0), max(0, min(stop, self.shape_zyx[axis]))))
        return spans[0], spans[1], spans[2]

    @cached_property
    def voxel_mm(self) -> float:
        """Side of a cube as large as a voxel."""
        return float(np.prod(self.spacing_zyx_mm) ** (1 / 3))

    def smooth(self, field: Callable[[Mm, Mm, Mm], Mm]) -> Mm:
        """A field that changes slowly, on the whole grid: computed at every other row and column, linear between."""
        _, ny, nx = self.shape_zyx
        x, y, z = self.axes
        values = field(between(nx // 2 + 1, x), between(ny // 2 + 1, y, axis=1), z)
        return between(nx, between(ny, values, axis=1))

    @staticmethod
    def _centres(span: slice, step: float, first: float, parts: int) -> Mm:
        index = (np.arange(span.start * parts, span.stop * parts) + 0.5) / parts - 0.5
        return (first + step * index).astype(np.float32)


@dataclass(frozen=True, eq=False)
class Canvas:
    """Hounsfield units on a grid. Painting changes it: a canvas belongs to the one who draws the patient."""

    grid: Grid
    hu_ZYX: NDArray[np.float32]

    def paint(self, shape: Shape, hu: float) -> None:
        """Put a large shape in the place of what is there; its edge is one voxel wide."""
        window = self.grid.window(*_grown(shape, self.grid.voxel_mm))
        if _is_empty(window):
            return
        share = covered(shape.distance(*self.grid.axes_of(window)), self.grid.voxel_mm)
        part = self.hu_ZYX[window]
        part += share * (np.float32(hu) - part)

    def add_fine(self, shape: Shape, hu: float) -> None:
        """Blend a small shape in where it is denser than what is there.

        Averaged over sub-voxels: right also where the shape is thinner than a slice.
        """
        window = self.grid.window(*_grown(shape, FINEST_MM))
        if _is_empty(window):
            return
        pz, py, px = (max(1, round(step / FINEST_MM)) for step in self.grid.spacing_zyx_mm)
        share = covered(shape.distance(*self.grid.axes_of(window, (pz, py, px))), FINEST_MM)
        z, y, x = share.shape
        share = share.reshape(z // pz, pz, y // py, py, x // px, px).mean(axis=(1, 3, 5))
        part = self.hu_ZYX[window]
        part += share * np.maximum(np.float32(hu) - part, 0)


def covered(distance: Mm, width_mm: float) -> NDArray[np.float32]:
    """The share of a voxel inside a surface at this signed distance from its centre."""
    share = distance * np.float32(-1.0 / width_mm)
    share += np.float32(0.5)
    np.clip(share, 0.0, 1.0, out=share)
    return share


def between(n: int, values: Mm, axis: int = -1) -> Mm:
    """Stretch one axis to n points by linear interpolation; the ends stay."""
    knots = values.shape[axis]
    at = np.linspace(0, knots - 1, n)
    below = np.minimum(at.astype(np.intp), knots - 2)
    share = np.expand_dims((at - below).astype(np.float32), tuple(range(1, values.ndim - axis % values.ndim)))
    low = np.take(values, below, axis)
    stretched: Mm = np.take(values, below + 1, axis)
    stretched -= low
    stretched *= share
    stretched += low
    return stretched


def _grown(shape: Shape, margin_mm: float) -> tuple[Point, Point]:
    low, high = shape.bounds()
    return (
        (low[0] - margin_mm, low[1] - margin_mm, low[2] - margin_mm),
        (high[0] + margin_mm, high[1] + margin_mm, high[2] + margin_mm),
    )


def _is_empty(window: Window) -> bool:
    return any(span.start >= span.stop for span in window)
