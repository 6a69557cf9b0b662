"""A few numbers of one crop that say what is in its middle, cheap and the same for every hospital.

    centre   brightness within 3 mm        ball   within 5 mm
    blob     within 5 mm, less around it (5 to 10 mm)
    round    how little what is bright stretches: least by largest extent (0 a thread, 1 a ball)

Nodules are rounder and denser in the middle than what is mistaken for them, at one hospital as at the next; how well
each number tells the classes apart is a hospital's signature, and labels the wrong way round turn all of it over.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

CENTRE_MM, BALL_MM, AROUND_MM, REACH_MM = 3.0, 5.0, 10.0, 8.0
BRIGHT = 0.4
"""Of the window; with −1000 … 400 HU: −440 HU, half-way from lung to tissue."""
SHAPES = ("centre", "ball", "blob", "round")


@dataclass(frozen=True, eq=False)
class _Regions:
    """Which voxels of a cube are how far from its middle, as indices into the flat cube."""

    centre: NDArray[np.intp]
    ball: NDArray[np.intp]
    around: NDArray[np.intp]
    reach: NDArray[np.intp]
    reach_zyx_mm: NDArray[np.float64]


def shape_of(x_ZYX: NDArray[np.float32], *, voxel_mm: float) -> dict[str, float]:
    """The numbers above, by name, of a cubic crop in [0, 1]."""
    regions = _regions(len(x_ZYX), voxel_mm)
    x = x_ZYX.reshape(-1)
    ball = float(x[regions.ball].mean())
    around = float(x[regions.around].mean()) if regions.around.size else ball
    roundness = _roundness(x[regions.reach], regions.reach_zyx_mm)
    return {"centre": float(x[regions.centre].mean()), "ball": ball, "blob": ball - around, "round": roundness}


@lru_cache(maxsize=4)
def _regions(size: int, voxel_mm: float) -> _Regions:
    axis = (np.arange(size) - size // 2) * voxel_mm
    places = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1).reshape(-1, 3)
    away = np.linalg.norm(places, axis=1)
    centre, ball, reach = (np.flatnonzero(away <= max(mm, voxel_mm)) for mm in (CENTRE_MM, BALL_MM, REACH_MM))
    around = np.flatnonzero((away > BALL_MM) & (away <= AROUND_MM))
    return _Regions(centre, ball, around, reach, places[reach])


def _roundness(x: NDArray[np.float32], places_mm: NDArray[np.float64]) -> float:
    """Least by largest principal moment of what is bright; 0 where nothing is."""
    weights = np.clip(x.astype(np.float64) - BRIGHT, 0.0, None)
    if not weights.any():
        return 0.0
    weights /= weights.sum()
    around = places_mm - weights @ places_mm
    least, _, largest = np.linalg.eigvalsh((weights[:, None] * around).T @ around)
    return float(max(least, 0.0) / max(largest, 1e-9))
