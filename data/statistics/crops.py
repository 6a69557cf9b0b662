"""What labelled crops measure: brightness, shape, and how far the two classes are apart."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from data.statistics.shape import SHAPES, shape_of
from data.statistics.spread import spread

BINS = 16
"""Of an intensity histogram over [0, 1]."""
BLANK_CT, BLANK_PERCENTILE = 0.2, 99.5
"""A crop of a CT is blank where its brightest two hundredth is darker than this: lung shows vessels, air nothing."""
BLANK_CUBE = 0.02
"""A ready-made cube is blank where nothing in it is brighter: some are black but for their finding."""
FEWEST = 5
"""Crops of either class below which nothing is said of how far they are apart."""
CLASSES = ("negative", "positive")
"""By label."""


@dataclass(frozen=True)
class CropNumbers:
    """One crop; its voxels are not kept."""

    patient: str
    """Counted, never told."""
    label: int
    mean: float
    is_blank: bool
    shape: dict[str, float]
    histogram: tuple[int, ...]


def measure(x_ZYX: NDArray[np.float32], *, patient: str, label: int, voxel_mm: float, is_ct: bool) -> CropNumbers:
    """The numbers of a cubic crop in [0, 1]; `is_ct`: that range stands for Hounsfield units."""
    blank = np.percentile(x_ZYX, BLANK_PERCENTILE) < BLANK_CT if is_ct else x_ZYX.max() < BLANK_CUBE
    counts, _ = np.histogram(x_ZYX, BINS, (0.0, 1.0))
    shape = shape_of(x_ZYX, voxel_mm=voxel_mm)
    return CropNumbers(patient, label, float(x_ZYX.mean()), bool(blank), shape, tuple(counts.tolist()))


def numbers(crops: Sequence[CropNumbers]) -> dict[str, float]:
    """Numbers by name (`quantities.QUANTITIES`)."""
    if not crops:
        return {}
    told = {"blank_share": float(np.mean([crop.is_blank for crop in crops]))}
    told |= spread("crop_mean", [crop.mean for crop in crops])
    for label, name in enumerate(CLASSES):
        told |= spread(f"{name}_centre", [crop.shape["centre"] for crop in crops if crop.label == label])
    return told


def histograms(crops: Sequence[CropNumbers]) -> dict[str, tuple[float, ...]]:
    """By class: share of the voxels in each of `BINS` steps of brightness. A class without crops is absent."""
    told = {}
    for label, name in enumerate(CLASSES):
        counts = np.sum([crop.histogram for crop in crops if crop.label == label], axis=0)
        if np.any(counts):
            told[name] = tuple((counts / counts.sum()).tolist())
    return told


def separation(crops: Sequence[CropNumbers]) -> dict[str, float]:
    """By shape: AUC − ½ of telling positives from negatives by it alone. Empty where crops are too few."""
    negatives, positives = ([crop.shape for crop in crops if crop.label == label] for label in (0, 1))
    if min(len(negatives), len(positives)) < FEWEST:
        return {}
    return {name: _auc([s[name] for s in negatives], [s[name] for s in positives]) - 0.5 for name in SHAPES}


def told(crops: Sequence[CropNumbers]) -> dict[str, int]:
    """Of how many patients crops are: all together, and of either class."""
    groups = {"crop": crops, **{name: [c for c in crops if c.label == label] for label, name in enumerate(CLASSES)}}
    return {name: len({crop.patient for crop in group}) for name, group in groups.items()}


def _auc(negatives: Sequence[float], positives: Sequence[float]) -> float:
    """Share of the pairs in which the positive has more; ties count half."""
    ordered = np.sort(negatives)
    below, not_above = (np.searchsorted(ordered, positives, side=side) for side in ("left", "right"))
    return float((below + not_above).mean() / (2 * len(negatives)))
