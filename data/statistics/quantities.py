"""What hospitals are compared by: each number's name, unit, and what a strange one means.

The names are the keys of conf/comparison. Of a number that each scan (or crop) has, a hospital tells the median under
the number's name, and its 10th and 90th percentile over scans (or crops) under `NAME_low` and `NAME_high`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Quantity:
    words: str
    unit: str
    fault: str
    """What is probably wrong where the number is strange, and what to do."""


_RESCALE = "the rescale (slope, intercept) is missing or wrong; export the scans again with it"
_UNITS = "coordinates are not in millimetres, or spacings are wrong; export the scans again"
_TURNED = "voxels do not lie as the header says; export the scans again, without converting them"
_LABELS = "labels lie in other places than the findings; check their coordinates (LPS, mm)"

QUANTITIES: Final[Mapping[str, Quantity]] = {
    "slice_mm": Quantity("distance of slices", "mm", _UNITS),
    "pixel_mm": Quantity("distance of pixels", "mm", _UNITS),
    "field_mm": Quantity("width of slices", "mm", _UNITS),
    "length_mm": Quantity("length of scans", "mm", _UNITS),
    "air_share": Quantity("share of air and lung", "", "there is no chest in the scans, or their voxels are lost"),
    "has_lung": Quantity("share of scans that show lungs", "", "these are not chest scans"),
    "tissue_hu": Quantity("soft tissue", "HU", _RESCALE),
    "p10_tissue_hu": Quantity("soft tissue, 10th percentile", "HU", _RESCALE),
    "p90_tissue_hu": Quantity("soft tissue, 90th percentile", "HU", _RESCALE),
    "lung_hu": Quantity("lung", "HU", _RESCALE),
    "p10_lung_hu": Quantity("lung, 10th percentile", "HU", _RESCALE),
    "p90_lung_hu": Quantity("lung, 90th percentile", "HU", _RESCALE),
    "contrast_hu": Quantity("soft tissue above lung", "HU", _RESCALE),
    "lateral": Quantity("side-by-side place of the lungs", "", f"patients lie sideways: {_TURNED}"),
    "standing": Quantity("run of the spine along the slices", "", f"patients are tipped over: {_TURNED}"),
    "spine_back": Quantity("place of the spine behind the lungs", "", f"patients are turned front to back: {_TURNED}"),
    "airway_up": Quantity(
        "place of the windpipe above the middle of the lungs", "", f"patients are head down: {_TURNED}"
    ),
    "labelled": Quantity(
        "number of labelled places", "", "there are no labels; check the table that source.labels names"
    ),
    "outside_share": Quantity("share of labels without a crop in their scan", "", _LABELS),
    "blank_share": Quantity("share of crops that hold nothing but air", "", _LABELS),
    "positive_share": Quantity("share of positives", "", "one class is missing; check the labels"),
    "measured_negatives": Quantity(
        "share of negatives with a diameter, less that of positives", "", "labels 0 and 1 are swapped; check the table"
    ),
    "crop_mean": Quantity("brightness of crops", "", "voxels are scaled otherwise; check the source and its export"),
    "positive_centre_hu": Quantity("middle of positives, median", "HU", _LABELS),
    "positive_centre": Quantity("brightness in the middle of positives", "", _LABELS),
    "negative_centre": Quantity("brightness in the middle of negatives", "", _LABELS),
}
