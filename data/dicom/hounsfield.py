"""Stored pixels → Hounsfield units; padding → air.

HU = RescaleSlope (0028,1053) · stored + RescaleIntercept (0028,1052), slice by slice: some scanners change both from
slice to slice. The result is int16, rounded.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from data.dicom.plane import Layout, Plane
from data.errors import BadVoxels, MissingRescale
from data.volume import AIR_HU, INT16, as_hu

DARKEST_HU = -1500
"""Below this is no tissue and no noise: scanners mark the corners outside their circle with −2000, −2048 or −3024,
with or without a padding tag. Noise in air reaches about −1200."""

BRIGHTEST_TISSUE_HU = 3071
"""The top of the 12-bit scale. A padding tag that names a value between air and this is not believed: exporters write
0 there, which is water."""


WHOLE = 2**31
"""Rescales of whole numbers below this are reckoned in whole numbers."""


def rescale_of(plane: Plane) -> tuple[float, float]:
    """Slope and intercept.

    Raises:
        MissingRescale: one is absent or no number, so the unit is unknown.
        BadVoxels: a slope of zero.
    """
    slope, intercept = plane.slope, plane.intercept
    if slope is None or intercept is None:
        missing = "RescaleSlope" if slope is None else "RescaleIntercept"
        raise MissingRescale(
            f"{plane.name}: no {missing}, so its numbers are not Hounsfield units; export the series again"
        )
    if slope == 0:
        raise BadVoxels(f"{plane.name}: RescaleSlope is 0; every voxel would be alike, export the series again")
    return slope, intercept


def write_hu(stored: NDArray[Any], plane: Plane, hu_YX: NDArray[np.int16]) -> bool:
    """Write the Hounsfield units of one slice into `hu_YX`; padding becomes air.

    `stored` is used up. Returns whether there was padding.

    Raises:
        MissingRescale
        BadVoxels: beyond 16 bits after the rescale.
    """
    slope, intercept = rescale_of(plane)
    tag = _padding_tag(plane.header.layout, slope, intercept)
    is_padding = _padding_in_all_bits(stored, plane.header.layout, tag)
    used = _used_bits(stored, plane.header.layout)
    if is_padding is None and tag is not None:
        is_padding = _mask(used, *tag)
    if is_padding is not None:
        used[is_padding] = _nearest_to_air(used, slope, intercept)  # padding may lie beyond 16 bits after the rescale
    _write_rescaled(used, slope, intercept, plane.name, hu_YX)
    if is_padding is not None:
        hu_YX[is_padding] = AIR_HU
    is_dark = bool(hu_YX.min() < DARKEST_HU)
    if is_dark:
        hu_YX[hu_YX < DARKEST_HU] = AIR_HU
    return is_dark or is_padding is not None


def padding_to_air(hu: NDArray[np.int16]) -> NDArray[np.int16]:
    """Replace what is darker than any tissue by air: padding that no tag announces. A new array where there is any."""
    return np.where(hu < DARKEST_HU, np.int16(AIR_HU), hu) if hu.min() < DARKEST_HU else hu


def _used_bits(stored: NDArray[Any], layout: Layout) -> NDArray[Any]:
    """Only BitsStored count; the bits above them hold overlays, or anything (PS3.5 8.1.1)."""
    spare = 8 * stored.dtype.itemsize - (layout.bits_stored or 0)
    if stored.dtype.kind in "iu" and spare > 0:
        # Up and down again: of signed numbers the highest bit that is left carries the sign.
        stored <<= spare
        stored >>= spare
    return stored


def _padding_tag(layout: Layout, slope: float, intercept: float) -> tuple[int, int] | None:
    """Lowest and highest stored number that a tag declares to mean "nothing here"; None where none is believed."""
    value, limit = layout.padding, layout.padding_limit
    if value is None:
        return None
    low, high = sorted((value, value if limit is None else limit))
    dark, bright = sorted((slope * low + intercept, slope * high + intercept))
    return (low, high) if bright <= AIR_HU or dark >= BRIGHTEST_TISSUE_HU else None


def _padding_in_all_bits(stored: NDArray[Any], layout: Layout, tag: tuple[int, int] | None) -> NDArray[np.bool_] | None:
    """Where pixels hold a padding value that needs more bits than are stored; None where there is no such value.

    Some exporters tag, and write, −2000 as 63536 beside 12 unsigned bits; of the lower 12 alone, bone would be made.
    Bits beyond those stored are no part of a pixel's value (DICOM PS3.5 § 8.1.1), and the standard does not foresee
    padding that needs them; read as the exporter's tag says, it is air.
    """
    if tag is None or layout.padding is None or _fits(layout.padding, layout) or stored.dtype.itemsize != 2:
        return None
    value = layout.padding & 0xFFFF
    return _mask(stored.view(np.uint16), value, value)


def _mask(stored: NDArray[Any], low: int, high: int) -> NDArray[np.bool_] | None:
    is_padding: NDArray[np.bool_] = (stored >= low) & (stored <= high)
    return is_padding if is_padding.any() else None


def _fits(value: int, layout: Layout) -> bool:
    """Whether a number can be stored in the bits that are said to be used."""
    bits = layout.bits_stored or 16
    return -(1 << (bits - 1)) <= value < 1 << (bits - 1) if layout.representation else 0 <= value < 1 << bits


def _nearest_to_air(stored: NDArray[Any], slope: float, intercept: float) -> int:
    limits = np.iinfo(stored.dtype)
    return int(np.clip((AIR_HU - intercept) / slope, limits.min, limits.max))


def _write_rescaled(stored: NDArray[Any], slope: float, intercept: float, name: str, hu_YX: NDArray[np.int16]) -> None:
    """Where rescale and result are whole numbers in 16 bits, as nearly always, nothing wider is made."""
    if slope.is_integer() and intercept.is_integer() and max(abs(slope), abs(intercept)) < WHOLE:
        ends = [int(slope) * int(end) + int(intercept) for end in (stored.min(), stored.max())]
        if INT16.min <= min(ends) and max(ends) <= INT16.max:
            # Wraps around where stored is wider than 16 signed bits; the sum, which fits, wraps back.
            np.copyto(hu_YX, stored, casting="unsafe")
            if slope != 1:
                hu_YX *= np.int64(slope).astype(np.int16)
            hu_YX += np.int64(intercept).astype(np.int16)
            return
    with np.errstate(over="ignore", invalid="ignore"):  # what becomes infinite is refused
        exact = stored.astype(np.float64) * slope + intercept
    hu_YX[:] = as_hu(exact, where=name)
