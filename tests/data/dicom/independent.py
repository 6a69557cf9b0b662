"""Another reader of DICOM series, written as plainly as can be: pydicom and numpy, one slice at a time.

`python independent.py OUT.npz FILE …` reads compressed files where a codec may take the whole process with it.
"""

import sys
import warnings
from dataclasses import dataclass

import numpy as np
import pydicom
from pydicom.pixels.utils import pixel_array

AIR = -1000


@dataclass
class Slice:
    hu: np.ndarray
    position: np.ndarray
    orientation: np.ndarray
    spacing: np.ndarray


def read(paths):
    """hu (Z, Y, X), positions (Z, 3) of first voxels, orientation (6,), spacing (2,), in order along the normal."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        slices = [one for path in paths for one in slices_of(path)]
    normal = np.cross(slices[0].orientation[:3], slices[0].orientation[3:])
    slices.sort(key=lambda one: float(one.position @ normal))
    return (
        np.stack([one.hu for one in slices]),
        np.stack([one.position for one in slices]),
        slices[0].orientation,
        slices[0].spacing,
    )


def slices_of(path):
    dataset = pydicom.dcmread(path, force=True)
    if "TransferSyntaxUID" not in dataset.file_meta:
        implicit, little = dataset.original_encoding
        syntaxes = {(True, True): "1.2", (False, True): "1.2.1", (False, False): "1.2.2"}
        dataset.file_meta.TransferSyntaxUID = f"1.2.840.10008.{syntaxes[implicit, little]}"
    stored = pixel_array(dataset, correct_unused_bits=False)
    frames = dataset.get("PerFrameFunctionalGroupsSequence") or [None]
    for frame, pixels in zip(frames, stored.reshape(-1, *stored.shape[-2:]), strict=True):
        look = lambda group, name, frame=frame: find(dataset, frame, group, name)  # noqa: E731
        transform, measures = "PixelValueTransformationSequence", "PixelMeasuresSequence"
        slope, intercept = (float(look(transform, name)) for name in ("RescaleSlope", "RescaleIntercept"))
        yield Slice(
            hounsfield(dataset, pixels, slope, intercept),
            np.array(look("PlanePositionSequence", "ImagePositionPatient"), float),
            np.array(look("PlaneOrientationSequence", "ImageOrientationPatient"), float),
            np.array(look(measures, "PixelSpacing"), float),
        )


def find(dataset, frame, group, name):
    shared = dataset.get("SharedFunctionalGroupsSequence") or [None]
    for place in (frame, shared[0]):
        if place is not None and group in place and name in place[group].value[0]:
            return place[group].value[0][name].value
    return dataset[name].value


def hounsfield(dataset, pixels, slope, intercept):
    bits, is_signed = int(dataset.BitsStored), dataset.PixelRepresentation == 1
    raw = pixels.astype(np.int64)
    exact = raw & ((1 << bits) - 1)
    if is_signed:
        exact = np.where(exact >> (bits - 1) & 1, exact - (1 << bits), exact)
    hu = np.rint(exact * slope + intercept)
    return np.where(padding(dataset, raw, exact, slope, intercept) | (hu < -1500), AIR, hu)


def padding(dataset, raw, exact, slope, intercept):
    tags = [number(dataset, name) for name in ("PixelPaddingValue", "PixelPaddingRangeLimit")]
    if tags[0] is None:
        return np.zeros(raw.shape, bool)
    ends = [tag for tag in tags if tag is not None]
    meant = [end * slope + intercept for end in ends]
    if max(meant) > AIR and min(meant) < 3071:
        return np.zeros(raw.shape, bool)
    bits = int(dataset.BitsStored)
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if dataset.PixelRepresentation == 1 else (0, (1 << bits) - 1)
    if not low <= tags[0] <= high:
        return (raw & 0xFFFF) == (tags[0] & 0xFFFF) if int(dataset.BitsAllocated) == 16 else np.zeros(raw.shape, bool)
    return (exact >= min(ends)) & (exact <= max(ends))


def number(dataset, name):
    value = dataset.get(name)
    if value is None or isinstance(value, str | bytes):
        return None
    if not isinstance(value, int):
        return None
    is_negative = dataset.PixelRepresentation == 1 and value & 0x8000
    return (value & 0xFFFF) - (0x10000 if is_negative else 0)


if __name__ == "__main__":
    np.savez(sys.argv[1], *read(sys.argv[2:]))
