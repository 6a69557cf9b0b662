"""What one scan measures: a few numbers of its geometry, its Hounsfield units and how the patient lies in it."""

from typing import Final

import numpy as np

from data.preprocess.orient import oriented
from data.statistics.anatomy import anatomy_of
from data.statistics.pose import pose_of
from data.volume import CtVolume

SHARES: Final = {"p10_": 10, "": 50, "p90_": 90}
"""Quantiles of tissue and lung, by what their names begin with."""
HAS_LUNG: Final = "has_lung"


def scan_numbers(volume: CtVolume) -> dict[str, float]:
    """Numbers of one scan by name (`quantities.QUANTITIES`); those that cannot be told are absent.

    A scan without lungs has `has_lung` 0 and no number that needs them.
    """
    volume = oriented(volume)
    numbers = _geometry(volume)
    anatomy = anatomy_of(volume)
    if not anatomy.tissue_hu.size:
        return {**numbers, HAS_LUNG: 0.0}
    numbers |= {"air_share": anatomy.dark_share, HAS_LUNG: float(anatomy.lung_hu.size > 0)}
    for tissue, hu in (("tissue_hu", anatomy.tissue_hu), ("lung_hu", anatomy.lung_hu)):
        if hu.size:
            numbers |= {name + tissue: float(np.percentile(hu, share)) for name, share in SHARES.items()}
    if numbers[HAS_LUNG]:
        numbers |= {"contrast_hu": numbers["tissue_hu"] - numbers["lung_hu"], **pose_of(anatomy)}
    return numbers


def _geometry(volume: CtVolume) -> dict[str, float]:
    spacing_z, *spacing_yx = volume.spacing_zyx_mm
    _, *extents_yx = (n * mm for n, mm in zip(volume.hu_ZYX.shape, volume.spacing_zyx_mm, strict=True))
    return {"slice_mm": spacing_z, "pixel_mm": max(spacing_yx), "field_mm": max(extents_yx),
            "length_mm": volume.hu_ZYX.shape[0] * spacing_z}  # fmt: skip
