"""Score histograms that may leave a hospital: few bins, each patient counts for little, noise in every bin.

A patient's crops are counted in coarse bins of both classes, and the counts are scaled to L2 norm 1 (a patient of one
crop counts 1, of four crops in four bins ½ each): with or without any one patient the histogram moves by at most 1.
Gaussian noise of standard deviation z follows. What is made of the noised counts afterwards costs nothing.

Coarse bins are runs of the fine ones of `classification`. Back at the server each stands at the middle of its run, in
thousandths of a count, so that AUC and thresholds are read as from any other histogram; noised counts may be negative.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from app.metrics.classification import BINS, histogram

THOUSANDTHS = 1000

MARGIN = 1e-9
"""A patient's counts are scaled to a norm this much below 1, so that no rounding carries them above it."""


def coarse(
    logits: NDArray[np.floating], labels: NDArray[np.integer], patients: Sequence[str], bins: int
) -> NDArray[np.float64]:
    """(2, bins): scores (N,) with labels (N,), each unit of `patients` (N,) scaled to L2 norm 1 over both classes.

    Sensitive until noise is added.
    """
    names, owner = np.unique(np.asarray(patients, dtype=str), return_inverse=True)
    total = np.zeros((2, bins))
    for unit in range(len(names)):
        rows = np.flatnonzero(owner == unit)
        counts = _merged(histogram(logits[rows], labels[rows]), bins)
        total += counts / (np.linalg.norm(counts) * (1 + MARGIN))
    return total


def fine(noised: NDArray[np.floating]) -> NDArray[np.int64]:
    """(…, 2, bins) counts → (…, 2, BINS) in thousandths, each in the middle of its run of fine bins."""
    bins = noised.shape[-1]
    edges = _edges(bins)
    middles = (edges[:-1] + edges[1:] - 1) // 2
    out = np.zeros((*noised.shape[:-1], BINS), np.int64)
    out[..., middles] = np.rint(noised * THOUSANDTHS).astype(np.int64)
    return out


def simulated(
    noised: NDArray[np.floating], sd: float, replicates: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """(replicates, 2, bins): what the noise and the chance of who is a patient might have made of these counts.

    Each replicate moves the counts by fresh noise and by the Poisson spread of counts of this size; read from noised
    counts alone, so it costs nothing.
    """
    shape = (replicates, *noised.shape)
    plausible = np.clip(noised, 0.0, None)
    moved: NDArray[np.float64] = noised + (rng.poisson(plausible, shape) - plausible) + rng.normal(0.0, sd, shape)
    return moved


def _merged(counts: NDArray[np.integer], bins: int) -> NDArray[np.float64]:
    return np.add.reduceat(counts, _edges(bins)[:-1], axis=1).astype(np.float64)


def _edges(bins: int) -> NDArray[np.int64]:
    """The first fine bin of each coarse one, and the end. Raises ValueError for more bins than there are."""
    if not 1 <= bins <= BINS:
        raise ValueError(f"bins: got {bins}; a number from 1 to {BINS} is needed")
    return np.rint(np.linspace(0, BINS, bins + 1)).astype(np.int64)
