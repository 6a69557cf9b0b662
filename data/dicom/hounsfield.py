"""Stored pixels → Hounsfield units; padding → air.

HU = RescaleSlope (0028,1053) · stored + RescaleIntercept (0028,1052), slice by slice: some scanners change both from
slice to slice. The result is int16, rounded.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import FileDataset

from data.errors import BadVoxels, MissingHeader, UnreadableScan
from data.volume import AIR_HU, INT16, as_hu

DARKEST_HU = -1500
"""Below this is no tissue and no noise: scanners mark the corners outside their circle with −2000, −2048 or −3024,
with or without a padding tag. Noise in air reaches about −1200."""

BRIGHTEST_TISSUE_HU = 3071
"""The top of the 12-bit scale. A padding tag that names a value between air and this is not believed: exporters write
0 there, which is water."""


def to_hu(dataset: FileDataset, *, file: str) -> NDArray[np.int16]:
    """The Hounsfield units of one slice (Y, X), padding replaced by air.

    Raises:
        UnreadableScan: truncated, or in a transfer syntax that cannot be decoded.
        MissingHeader: no rescale, so the unit is unknown.
        BadVoxels: not one grey value a pixel, or beyond 16 bits after the rescale.
    """
    slope, intercept = _rescale(dataset, file)
    hu = _rescaled(_stored(dataset, file), slope, intercept, file)
    if (padding := _tagged_padding(dataset, slope, intercept)) is not None:
        low, high = padding
        hu[(hu >= low) & (hu <= high)] = AIR_HU
    return padding_to_air(hu)


def padding_to_air(hu: NDArray[np.int16]) -> NDArray[np.int16]:
    """Replace what is darker than any tissue by air: padding that no tag announces. A new array where there is any."""
    return np.where(hu < DARKEST_HU, np.int16(AIR_HU), hu) if hu.min() < DARKEST_HU else hu


def _rescale(dataset: FileDataset, file: str) -> tuple[float, float]:
    slope, intercept = dataset.get("RescaleSlope"), dataset.get("RescaleIntercept")
    if slope is None or intercept is None:
        missing = "RescaleSlope" if slope is None else "RescaleIntercept"
        raise MissingHeader(f"{file}: no {missing}, so its numbers are not Hounsfield units; export the series again")
    if float(slope) == 0:
        raise BadVoxels(f"{file}: RescaleSlope is 0; every voxel would be alike, export the series again")
    return float(slope), float(intercept)


def _stored(dataset: FileDataset, file: str) -> NDArray[Any]:
    try:
        stored = dataset.pixel_array
    except (AttributeError, ValueError, RuntimeError, NotImplementedError, EOFError) as error:
        reason = " ".join(str(error).split())
        raise UnreadableScan(f"{file}: its pixels cannot be decoded ({reason}); export it uncompressed") from error
    if stored.ndim != 2:
        raise BadVoxels(f"{file}: pixels of shape {stored.shape}; a CT slice has one grey value a pixel")
    return stored


def _rescaled(stored: NDArray[Any], slope: float, intercept: float, file: str) -> NDArray[np.int16]:
    """A new array. Where rescale and result are whole numbers in 16 bits, as nearly always, nothing wider is made."""
    if stored.dtype.kind in "iu" and slope.is_integer() and intercept.is_integer():
        ends = [int(slope) * int(end) + int(intercept) for end in (stored.min(), stored.max())]
        if INT16.min <= min(ends) and max(ends) <= INT16.max:
            hu = stored.astype(np.int16)  # wraps around where stored is wider; the sum, which fits, wraps back
            hu *= np.int64(slope).astype(np.int16)
            hu += np.int64(intercept).astype(np.int16)
            return hu
    return as_hu(stored.astype(np.float64) * slope + intercept, where=file)


def _tagged_padding(dataset: FileDataset, slope: float, intercept: float) -> tuple[float, float] | None:
    """Hounsfield units that a tag declares to mean "nothing here"; None where there is no tag, or none to believe."""
    value, limit = dataset.get("PixelPaddingValue"), dataset.get("PixelPaddingRangeLimit")
    if value is None:
        return None
    ends = sorted(slope * float(end) + intercept for end in (value, value if limit is None else limit))
    return (ends[0], ends[1]) if ends[1] <= AIR_HU or ends[0] >= BRIGHTEST_TISSUE_HU else None
