"""Thousands of thin vessels painted at once, each piece on its own small block of voxels.

A vessel thinner than a voxel is drawn a voxel wide and fainter, by its section: what partial volume makes of it.
"""

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from data.synthetic.canvas import Canvas, Grid, covered
from data.synthetic.shapes import Mm
from data.synthetic.vessels import Branches, Points

PIECE_MM = 3.0
"""Branches are cut into pieces of about this length (or of their own width), so that blocks stay small."""
_WIDTHS_MM = (0.0, 1.0, 2.0, 3.5, 20.0)
"""Pieces between two of these radii share the size of their blocks."""


def paint_branches(canvas: Canvas, branches: Branches, hu: float) -> None:
    """Blend vessels in where they are denser than what is there."""
    share = np.zeros(canvas.hu_ZYX.size, np.float32)
    for low, high in pairwise(_WIDTHS_MM):
        chosen = (branches.radius_mm > low) & (branches.radius_mm <= high)
        pieces = _cut(branches, chosen, canvas.grid)
        if len(pieces):
            voxels, covers = _blocks(pieces, canvas.grid)
            np.maximum.at(share, voxels.ravel(), covers.ravel())
    hu_ZYX = canvas.hu_ZYX
    hu_ZYX += share.reshape(hu_ZYX.shape) * np.maximum(np.float32(hu) - hu_ZYX, 0)


def _cut(branches: Branches, chosen: NDArray[np.bool_], grid: Grid) -> Branches:
    """The chosen branches in pieces of nearly equal length, without those that lie outside the grid."""
    start, end, radius = branches.start[chosen], branches.end[chosen], branches.radius_mm[chosen]
    length = np.linalg.norm(end - start, axis=1)
    count = np.ceil(length / np.maximum(PIECE_MM, 2 * radius)).astype(int)
    owner = np.repeat(np.arange(len(count)), count)
    nth = np.arange(len(owner)) - np.repeat(np.cumsum(count) - count, count)
    step = (end - start)[owner] / count[owner, None]
    first = start[owner] + nth[:, None] * step
    last = first + step
    low = np.array(grid.origin_xyz_mm)
    high = low + np.array(grid.spacing_zyx_mm[::-1]) * (np.array(grid.shape_zyx[::-1]) - 1)
    reach = radius[owner, None] + grid.voxel_mm
    seen = ((np.maximum(first, last) + reach > low) & (np.minimum(first, last) - reach < high)).all(axis=1)
    return Branches(first[seen], last[seen], radius[owner][seen])


def _blocks(pieces: Branches, grid: Grid) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Voxel numbers and covered shares, both (pieces, z, y, x)."""
    side, radius = grid.voxel_mm, pieces.radius_mm.max()
    reach = radius + side / 2 + np.linalg.norm(pieces.end - pieces.start, axis=1).max() / 2
    middle = (pieces.start + pieces.end) / 2
    index = [_near(middle[:, 2 - axis], reach, grid, axis) for axis in range(3)]
    _, ny, nx = grid.shape_zyx
    voxels = (index[0][:, :, None, None] * ny + index[1][:, None, :, None]) * nx + index[2][:, None, None, :]
    return voxels, _shares(pieces, index, grid)


def _near(centres: NDArray[np.float64], reach: float, grid: Grid, axis: int) -> NDArray[np.int64]:
    """(pieces, K) voxel numbers along one axis; at the edge of the grid the last one is repeated, which is harmless."""
    step, first = grid.spacing_zyx_mm[axis], grid.origin_xyz_mm[2 - axis]
    start = np.ceil((centres - reach - first) / step).astype(np.int64)
    numbers = start[:, None] + np.arange(int(2 * reach / step) + 1)
    inside: NDArray[np.int64] = np.clip(numbers, 0, grid.shape_zyx[axis] - 1)
    return inside


def _shares(pieces: Branches, index: list[NDArray[np.int64]], grid: Grid) -> NDArray[np.float32]:
    """|p - a|² and (p - a)·d are sums of one term an axis, so the blocks cost few full-size operations."""
    towards = pieces.end - pieces.start
    along, away2 = _sums(pieces.start, towards, index, grid)
    length2 = (towards**2).sum(axis=1).astype(np.float32)[:, None, None, None]
    at = np.clip(along / np.maximum(length2, 1e-6), 0, 1)
    away2 -= at * (2 * along - at * length2)
    side = grid.voxel_mm
    radius = pieces.radius_mm.astype(np.float32)[:, None, None, None]
    # An edge that fades over one side w adds w²/12 to the square of the radius of what is drawn; this takes it away.
    drawn = np.sqrt(np.maximum(radius**2 - side**2 / 12, side**2 / 4))
    share = covered(np.sqrt(np.maximum(away2, 0)) - drawn, side)
    share *= np.minimum(1, 3 * radius**2 / side**2)
    return share


def _sums(start: Points, towards: Points, index: list[NDArray[np.int64]], grid: Grid) -> tuple[Mm, Mm]:
    """(p - a)·d and |p - a|² of every voxel p of every block, (pieces, z, y, x)."""
    terms = []
    for axis, shape in enumerate(((-1, 1, 1), (1, -1, 1), (1, 1, -1))):
        at = grid.origin_xyz_mm[2 - axis] + grid.spacing_zyx_mm[axis] * index[axis] - start[:, 2 - axis, None]
        both = np.stack([at * towards[:, 2 - axis, None], at * at]).astype(np.float32)
        terms.append(both.reshape(2, len(start), *shape))
    along, away2 = terms[0] + terms[1] + terms[2]
    return along, away2
