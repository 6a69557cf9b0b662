"""Vessel trees: a hilum serves scattered places of its lung, and every branch divides them between two smaller ones.

Radii follow Murray's law by construction: a branch that serves n places has the radius of a twig times n^(1/3)
(Murray 1926: r³ = r₁³ + r₂³). Places are scattered evenly, so vessels reach every part of the lung.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]
"""(N, 3): x, y, z in mm."""

TWIG_MM = 0.36
"""Radius of a vessel that serves one place: about as thin as a CT shows."""
PLACE_MM3 = 1000.0
"""Lung tissue a twig serves: neighbouring twigs are some 10 mm apart."""
INSIDE_MM = 1.0
"""Twigs end this far from the pleura."""
ROOTS_MM = 5.0
"""How far arteries and veins begin from the middle of their hilum."""
ADVANCE = (0.3, 0.6)
"""How far a branch goes towards the middle of the places it serves before it divides."""


@dataclass(frozen=True, eq=False)
class Branches:
    """Straight pieces of vessel, tapering a little."""

    start: Points
    end: Points
    radius_mm: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.radius_mm)


def grow(places: Points, hila: Points, rng: np.random.Generator) -> Branches:
    """All branches that serve `places` (N, 3), each from the nearest of the `hila`; half by arteries, half by veins."""
    nearest = np.argmin(np.linalg.norm(places[:, None] - hila, axis=2), axis=1)
    roots, group = np.unique(2 * nearest + rng.integers(0, 2, len(places)), return_inverse=True)
    node = hila[roots // 2] + rng.normal(0, ROOTS_MM, (len(roots), 3))
    grown = [Branches(np.zeros((0, 3)), np.zeros((0, 3)), np.zeros(0))]
    while len(places):
        branches = _advance(places, group, node, rng)
        grown.append(branches)
        places, group, node = _divide(places, group, branches)
    return _joined(grown)


def _advance(places: Points, group: NDArray[np.int64], node: Points, rng: np.random.Generator) -> Branches:
    """A branch for every group of places, from its node towards the middle of the places."""
    count = np.bincount(group)
    middle = _means(places, group, count)
    share = np.where(count > 1, rng.uniform(*ADVANCE, len(count)), 1.0)[:, None]
    end = node + share * (middle - node)
    end += rng.normal(0, 0.08, end.shape) * np.linalg.norm(end - node, axis=1, keepdims=True)
    return Branches(node, end, TWIG_MM * np.cbrt(count))


def _divide(places: Points, group: NDArray[np.int64], branches: Branches) -> tuple[Points, NDArray[np.int64], Points]:
    """Halve every group across its longest direction; groups of one place are served."""
    count = np.bincount(group)
    away = places - _means(places, group, count)[group]
    longest = _longest(away, group, len(count))
    side = (away * longest[group]).sum(axis=1) > 0
    open_ = count[group] > 1
    halves, group = np.unique((2 * group + side)[open_], return_inverse=True)
    return places[open_], group, branches.end[halves // 2]


def _longest(away: Points, group: NDArray[np.int64], groups: int) -> Points:
    """(groups, 3): near enough the direction in which each group is longest, by a few steps of power iteration.

    Not `eigh`: the sign of its vectors, and with it every vessel that follows, would depend on the machine.
    """
    spread = np.zeros((groups, 3, 3))
    np.add.at(spread, group, away[:, :, None] * away[:, None, :])
    widest = np.argmax(np.einsum("gii->gi", spread), axis=1)
    direction: Points = spread[np.arange(groups), widest]
    for _ in range(4):
        direction = (spread * direction[:, None, :]).sum(axis=2)
        direction /= np.maximum(np.linalg.norm(direction, axis=1, keepdims=True), 1e-12)
    return direction


def _means(places: Points, group: NDArray[np.int64], count: NDArray[np.int64]) -> Points:
    return np.stack([np.bincount(group, column) / count for column in places.T], axis=1)


def _joined(grown: list[Branches]) -> Branches:
    return Branches(
        np.concatenate([b.start for b in grown]),
        np.concatenate([b.end for b in grown]),
        np.concatenate([b.radius_mm for b in grown]),
    )
