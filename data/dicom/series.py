"""DICOM files of one series → `CtVolume`."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from data.dicom.headers import place_of, read_whole
from data.dicom.hounsfield import to_hu
from data.dicom.stack import stack
from data.volume import CtVolume


def read_series(paths: Iterable[str | Path]) -> CtVolume:
    """Read the slices of one series, in any order, into a volume.

    Slices are sorted by their position along the normal, never by number or name. Voxels are Hounsfield units;
    padding is air (see `data.dicom.hounsfield`). World coordinates are DICOM's (LPS).

    Raises:
        UnreadableScan, MissingHeader, WrongModality: of one file, named.
        NotAVolume: the slices do not form a box (`data.dicom.stack`).
        BadVoxels: values that are no Hounsfield units.
    """
    files = [Path(path) for path in paths]
    slices = {i: read_whole(file) for i, file in enumerate(files)}
    box = stack([place_of(slices[i], file=str(file)) for i, file in enumerate(files)])
    hu_ZYX = np.empty((len(files), *box.shape_yx), np.int16)
    for z, i in enumerate(box.order):
        hu_ZYX[z] = to_hu(slices.pop(i), file=str(files[i]))  # pop: a slice's pixels are not kept twice
    return CtVolume(hu_ZYX, box.spacing_zyx_mm, box.origin_xyz_mm, box.direction)
