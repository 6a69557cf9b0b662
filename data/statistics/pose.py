"""Which way up a chest lies in its voxels, told from its anatomy instead of from its header.

In:  `Anatomy` of a scan turned to the patient's axes by its header (X left, Y back, Z head).
Out: four numbers that are positive where header and anatomy agree:

    lateral     the lungs lie side by side along X: share of the lung with lung beyond tissue, of all three axes
    standing    the spine runs along Z: share of the slices with bone at one depth, less the same for Y
    spine_back  the spine lies behind the middle of the lungs (in depths of the lungs)
    airway_up   the windpipe lies above the middle of the lungs (in heights of the lungs)

A scan turned on its side loses `lateral`, one tipped over loses `standing`, front-to-back turns `spine_back` and
head-to-foot turns `airway_up` negative. A mirror image (left for right) is not told: heart and lungs differ more
between patients than between sides. What cannot be told (one lung only, no windpipe in view) is left out.
"""

import math
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from data.statistics.anatomy import Anatomy, Mask

BEYOND_MM = 15.0
"""Tissue between two lungs is at least this thick; a fissure or a vessel is thinner."""
TWO_LUNGS = 0.2
"""Least share of the lungs with lung beyond tissue, over the axes together: below, only one lung is in view."""
LEAST_LITRES = 0.4
"""Lungs in view: in less, what lies in their middle is not the middle of the chest."""
BONE = 0.3
"""How far above tissue bone begins, in steps from lung to tissue (some 270 HU): above contrast agent in the heart of
most patients, and what a thick slice leaves of a vertebra's cortex."""
TISSUE_TOP = 80
"""Percentile of tissue that bone is measured from: muscle, also where most of the patient is fat."""
MIDLINE = 0.12
"""Half the width of the strip that holds spine and windpipe, in widths of the lungs."""
AROUND_MM = 40.0
"""The spine lies at most this far outside the lungs' box."""
COLUMN = 0.8
"""Depths with bone in at least this share of the fullest depth's slices belong to a column: not ribs, nor a heart."""
AIRWAY_MM2 = (60.0, 700.0)
"""Sections of windpipe and main bronchi."""
AIRWAY_WIDE_MM = 40.0


def pose_of(anatomy: Anatomy) -> dict[str, float]:
    """What can be told of how the patient lies, by the names above."""
    beyond_zyx = [_beyond(anatomy, axis) for axis in range(3)]
    if sum(beyond_zyx) < TWO_LUNGS or anatomy.lung_litres < LEAST_LITRES:
        return {}
    low, high = _box(anatomy.lung_ZYX)
    told = {
        "lateral": beyond_zyx[2] / sum(beyond_zyx),
        **_spine(anatomy, low, high),
        "airway_up": _airway(anatomy, low, high),
    }
    return {name: value for name, value in told.items() if math.isfinite(value)}


def _beyond(anatomy: Anatomy, axis: int) -> float:
    """Share of the lungs that has, before it on this axis, lung and then tissue."""
    lung, tissue = np.moveaxis(anatomy.lung_ZYX, axis, 0), np.moveaxis(anatomy.tissue_ZYX, axis, 0)
    thick = math.ceil(BEYOND_MM / anatomy.spacing_zyx_mm[axis])
    has_lung = has_both = np.zeros(lung.shape[1:], bool)
    run, count = np.zeros(lung.shape[1:], int), 0
    for lung_here, tissue_here in zip(lung, tissue, strict=True):
        run = np.where(tissue_here, run + 1, 0)
        has_both = has_both | (has_lung & (run >= thick))
        count += int(np.count_nonzero(lung_here & has_both))
        has_lung = has_lung | lung_here
    return count / max(int(np.count_nonzero(lung)), 1)


def _box(mask: Mask) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """First and last index along z, y, x, without the outermost 2 % on each side."""
    indices = np.nonzero(mask)
    low, high = (np.array([np.percentile(index, share) for index in indices]) for share in (2, 98))
    return low, high


def _spine(anatomy: Anatomy, low: NDArray[np.float64], high: NDArray[np.float64]) -> dict[str, float]:
    bone_ZYX, first = _midline_bone(anatomy, low, high)
    profile_ZY = bone_ZYX.any(axis=2)
    if not profile_ZY.any():
        return {}
    in_slices_Y, in_depths_Z = profile_ZY.mean(axis=0), profile_ZY.mean(axis=1)
    in_column = in_slices_Y >= COLUMN * in_slices_Y.max()
    weights = bone_ZYX.sum(axis=(0, 2)) * in_column
    depth = float(np.average(np.arange(len(weights)), weights=weights)) + first
    return {
        "standing": float(in_slices_Y.max() - in_depths_Z.max()),
        "spine_back": (depth - (low[1] + high[1]) / 2) / max(high[1] - low[1], 1.0),
    }


def _midline_bone(anatomy: Anatomy, low: NDArray[np.float64], high: NDArray[np.float64]) -> tuple[Mask, int]:
    """Bone in the middle of the chest and a little around it, and the index of its first row (y)."""
    muscle, lung = np.percentile(anatomy.tissue_hu, TISSUE_TOP), np.median(anatomy.lung_hu)
    margin = AROUND_MM / np.array(anatomy.spacing_zyx_mm)
    start = np.maximum(np.floor(low - margin), 0).astype(int)
    stop = np.minimum(np.ceil(high + margin) + 1, anatomy.mean_ZYX.shape).astype(int)
    middle, half = (low[2] + high[2]) / 2, max(1.0, MIDLINE * (high[2] - low[2]))
    strip = slice(max(0, int(middle - half)), int(middle + half) + 1)
    bone = anatomy.peak_ZYX > muscle + BONE * (muscle - lung)
    return bone[start[0] : stop[0], start[1] : stop[1], strip], int(start[1])


def _airway(anatomy: Anatomy, low: NDArray[np.float64], high: NDArray[np.float64]) -> float:
    """Height of the windpipe over the middle of the lungs; NaN where there is none."""
    slices = range(int(low[0]), int(high[0]) + 1)
    sections = np.array([_airway_mm2(anatomy, z, low, high) for z in slices])
    if not sections.any():
        return math.nan
    height = float(np.average(np.array(slices), weights=sections))
    return float((height - (low[0] + high[0]) / 2) / max(high[0] - low[0], 1.0))


def _airway_mm2(anatomy: Anatomy, z: int, low: NDArray[np.float64], high: NDArray[np.float64]) -> float:
    """Section of what may be windpipe in one slice: small, dark, walled in and in the middle."""
    _, dy, dx = anatomy.spacing_zyx_mm
    labels, _ = cast(tuple[NDArray[Any], int], ndimage.label(anatomy.mean_ZYX[z] < anatomy.threshold_hu))
    middle, half = (low[2] + high[2]) / 2, MIDLINE * (high[2] - low[2])
    total = 0.0
    for number, (rows, columns) in enumerate(ndimage.find_objects(labels), start=1):
        area = np.count_nonzero(labels[rows, columns] == number) * dy * dx
        is_central = abs((columns.start + columns.stop - 1) / 2 - middle) < half and low[1] < rows.start < high[1]
        is_narrow = (columns.stop - columns.start) * dx < AIRWAY_WIDE_MM
        if AIRWAY_MM2[0] <= area <= AIRWAY_MM2[1] and is_central and is_narrow:
            total += area
    return total
