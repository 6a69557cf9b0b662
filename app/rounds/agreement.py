"""Do labels mean the same at every hospital? Told from what they tell apart, without any label leaving.

Each hospital measures how well a few plain shapes (how round, how bright in the middle …) tell its positives from its
negatives: AUC − ½, a small vector. Swapping the labels turns that vector over. A hospital whose vector is opposite to
the others', by more than chance could make it, has swapped labels, or the others have.

What this cannot do, and does not claim: where the shapes tell the others' classes apart no better than chance, or a
hospital has few of either class, swapped labels cannot be seen; between two hospitals it cannot say which is wrong.
Some labels swapped among many right ones show only as a weaker vector.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from data.statistics import SiteStatistics

ALIKE = 0.7
"""How far two shapes go together by chance: the correlation of their AUC, 0.6 on phantoms and on LIDC."""


@dataclass(frozen=True)
class Agreement:
    """One hospital's labels against the others'."""

    value: float
    """1: they tell apart what the others' do, as well; 0: nothing of it; −1: the same, the other way round."""
    error: float
    """Standard error of it."""
    evidence: float
    """Standard errors by which the others' own labels tell classes apart."""


@dataclass(frozen=True)
class _Signature:
    vector: NDArray[np.float64]
    error: float


def agreements(sites: Mapping[str, SiteStatistics]) -> dict[str, Agreement]:
    """Of every hospital whose classes can be compared with another's."""
    shapes = sorted({shape for site in sites.values() for shape in site.separation})
    told = {name: _signature(site, shapes) for name, site in sites.items() if site.separation}
    if len(told) < 2:
        return {}
    return {name: _agreement(own, [told[other] for other in told if other != name]) for name, own in told.items()}


def _signature(site: SiteStatistics, shapes: Sequence[str]) -> _Signature:
    negatives, positives = (max(site.counts[name], 1) for name in ("seen_negatives", "seen_positives"))
    # Of an AUC where nothing is told apart (Mann and Whitney 1947).
    error = math.sqrt((negatives + positives + 1) / (12 * negatives * positives))
    return _Signature(np.array([site.separation[shape] for shape in shapes]), error)


def _agreement(own: _Signature, others: Sequence[_Signature]) -> Agreement:
    """Compare with the others' mean, each weighted by how exact it is."""
    weights = np.array([1 / other.error**2 for other in others])
    mean = np.average([other.vector for other in others], axis=0, weights=weights)
    mean_error = 1 / math.sqrt(weights.sum())
    length = max(float(mean @ mean), 1e-12)
    value = float(own.vector @ mean) / length
    spread = math.sqrt((1 - ALIKE) * length + ALIKE * float(np.abs(mean).sum()) ** 2) / length
    return Agreement(
        value=value,
        error=spread * math.hypot(own.error, value * mean_error),
        evidence=float(np.abs(mean).max()) / mean_error,
    )
