"""Slices → `CtVolume`: judged by their headers, read, set upright where a tilted gantry shifted them."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from data.dicom.box import Box, box_of
from data.dicom.headers import read_planes
from data.dicom.hounsfield import rescale_of, write_hu
from data.dicom.kinds import refuse_other_objects
from data.dicom.level import levelled
from data.dicom.pixels import PixelReader, is_lossy, refuse_unreadable
from data.dicom.place import place_of
from data.dicom.plane import Plane
from data.dicom.shear import sheared
from data.errors import UnreadableScan
from data.volume import CtVolume, Point

PADDING = "padding replaced by air"


def read_series(paths: Iterable[str | Path], *, accept: Iterable[str] = (), resample: bool = False) -> CtVolume:
    """Read the slices of one series, in any order, into a volume.

    Slices are sorted by their position along the normal, never by number or name. Voxels are Hounsfield units;
    padding is air (see `data.dicom.hounsfield`). World coordinates are DICOM's (LPS).

    Args:
        paths: its files.
        accept: codes of what is taken knowingly: `lossy-image`, `derived-image`, `missing-modality`.
        resample: whether missing slices and uneven steps are interpolated.

    Raises:
        UnreadableScan, MissingHeader, NotAScan, LossyImage: of one file, named.
        NotAVolume: the slices do not form a box (`data.dicom.box`).
        BadVoxels: values that are no Hounsfield units.
    """
    planes = []
    for path in map(Path, paths):
        if not (found := read_planes(path)):
            raise UnreadableScan(f"{path}: not a DICOM file (no DICM mark); leave it out")
        planes += found
    return volume_of(planes, judge(planes, accept=frozenset(accept), resample=resample))


def judge(planes: Sequence[Plane], *, accept: frozenset[str], resample: bool) -> Box:
    """The box that slices form, from headers alone.

    Raises:
        ScanError: what they are instead, or what they lack.
    """
    for plane in planes:
        refuse_other_objects(plane, accept=accept)
    for plane in planes:
        refuse_unreadable(plane, accept=accept)
        rescale_of(plane)
    return box_of([place_of(plane) for plane in planes], resample=resample)


def volume_of(planes: Sequence[Plane], box: Box) -> CtVolume:
    """Read the pixels of slices whose headers formed a box.

    Raises:
        UnreadableScan, BadVoxels
    """
    hu_ZYX, is_padded = _read(planes, box)
    origin = np.array(box.origin_xyz_mm)
    if box.shifts_yx is not None:
        hu_ZYX, corner_yx = sheared(hu_ZYX, box.shifts_yx)
        across_down_mm = np.multiply(corner_yx, box.spacing_zyx_mm[1:])[::-1]
        origin = origin + np.array(box.direction)[:, :2] @ across_down_mm
    if box.heights is not None:
        hu_ZYX = levelled(hu_ZYX, box.heights)
    did = [PADDING] * is_padded + ["lossy compression"] * any(map(is_lossy, planes)) + list(box.remarks)
    return CtVolume(hu_ZYX, box.spacing_zyx_mm, _point(origin), box.direction, tuple(did))


def _read(planes: Sequence[Plane], box: Box) -> tuple[np.ndarray, bool]:
    is_padded = False
    with PixelReader() as reader:
        # The first slice is read before room is made for all: a damaged header may ask for any amount.
        stored = reader.stored(planes[box.order[0]])
        hu_ZYX = np.empty((len(planes), *stored.shape), np.int16)
        for z, i in enumerate(box.order):
            stored = stored if z == 0 else reader.stored(planes[i])
            is_padded |= write_hu(stored, planes[i], hu_ZYX[z])
    return hu_ZYX, is_padded


def _point(xyz_mm: np.ndarray) -> Point:
    x, y, z = xyz_mm.tolist()
    return x, y, z
