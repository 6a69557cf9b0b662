"""Score histograms that may leave a hospital: few bins, each patient counts for little, noise in every bin.

A patient's crops are counted in coarse bins of both classes, and the counts are scaled to L2 norm 1 (a patient of one
crop counts 1, of four crops in four bins ½ each): with or without any one patient the histogram moves by at most 1.
Gaussian noise of standard deviation z follows. What is made of the noised counts afterwards costs nothing.

Noise is alike in every bin, and so a bin without scores is nothing but noise, while scores that share a bin are ties.
Validation patients are counted in even bins over all scores there can be, test patients where the *noised* validation
counts say that scores lie, each bin for a like share of them. The test bins cost nothing: they are made of a release
that validation patients have paid for, and those are other patients. Both sides make them, none sends them.

Simulated at ε 3.2, three hospitals; by how much the pooled AUC is too low, and the standard deviation of the noise:

    bins                           normal scores, AUC 0.90,      a private model's, piled up at
                                   360 patients of 3 crops       both ends, 586 patients of 6
    32 even                        0.002   0.030                 0.014   0.014
    16 even                        0.009   0.022                 0.023   0.011
    16 by the noised validation    0.003   0.016                 0.010   0.011
    24 by the noised validation    0.002   0.019                 0.005   0.010

Coarse bins are runs of the fine ones of `classification`. Back at the server each is spread evenly over its run, in
thousandths of a count, so that hospitals with bins of their own add up, and AUC and thresholds are read as from any
other histogram; noised counts may be negative.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from app.metrics.classification import BINS, histogram

Edges = NDArray[np.int64]
"""(bins + 1,): the first fine bin of each coarse one, ascending from 0, and BINS."""

THOUSANDTHS = 1000

MARGIN = 1e-9
"""A patient's counts are scaled to a norm this much below 1, so that no rounding carries them above it."""


def even(bins: int) -> Edges:
    """Bins of like width over all scores there can be. Raises ValueError for more bins than there are fine ones."""
    if not 1 <= bins <= BINS:
        raise ValueError(f"bins: got {bins}; a number from 1 to {BINS} is needed")
    return np.rint(np.linspace(0, BINS, bins + 1)).astype(np.int64)


def by_share(noised: NDArray[np.floating]) -> Edges:
    """As many bins as the even ones of `noised` (2, bins), each for a like share of the scores counted there.

    The same counts give the same bins on every machine. Counts that are all noise give bins like any other.
    """
    bins = noised.shape[-1]
    share = np.concatenate([[0.0], np.cumsum(np.clip(noised.sum(axis=0), 0.0, None))])
    if not share[-1] > 0.0:
        return even(bins)
    inner = np.interp(np.arange(1, bins) / bins, share / share[-1], even(bins))
    return _ascending(np.rint([0, *inner, BINS]).astype(np.int64))


def coarse(
    logits: NDArray[np.floating], labels: NDArray[np.integer], patients: Sequence[str], edges: Edges
) -> NDArray[np.float64]:
    """(2, bins): scores (N,) with labels (N,), each unit of `patients` (N,) scaled to L2 norm 1 over both classes.

    Sensitive until noise is added.
    """
    names, owner = np.unique(np.asarray(patients, dtype=str), return_inverse=True)
    total = np.zeros((2, len(edges) - 1))
    for unit in range(len(names)):
        rows = np.flatnonzero(owner == unit)
        counts = np.add.reduceat(histogram(logits[rows], labels[rows]), edges[:-1], axis=1).astype(np.float64)
        total += counts / (np.linalg.norm(counts) * (1 + MARGIN))
    return total


def fine(noised: NDArray[np.floating], edges: Edges) -> NDArray[np.int64]:
    """(…, 2, bins) counts → (…, 2, BINS) in thousandths, each spread evenly over its run of fine bins."""
    width = np.diff(edges)
    return np.rint(np.repeat(noised * THOUSANDTHS / width, width, axis=-1)).astype(np.int64)


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


def _ascending(edges: Edges) -> Edges:
    """The nearest edges above that leave each bin at least one fine bin."""
    least = np.arange(len(edges))
    risen = np.maximum.accumulate(edges - least) + least
    return np.minimum(risen, BINS - least[::-1])
