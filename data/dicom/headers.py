"""What one DICOM file says of itself; its pixels stay on disk.

Only the elements that decide where a slice belongs and how it is read: under a millisecond a file.
"""

import os
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

import pydicom
from pydicom.dataset import FileDataset
from pydicom.tag import Tag
from pydicom.uid import (
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    MediaStorageDirectoryStorage,
)

from data.dicom.elements import decimal, parsing, short, text
from data.dicom.functional_groups import planes_of
from data.dicom.plane import FileHeader, Layout, Plane
from data.errors import EmptyFile

_KEYWORDS = [
    "SpecificCharacterSet", "SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "PatientID",
    "Manufacturer", "Modality", "ImageType", "SeriesNumber", "SeriesDescription", "AcquisitionNumber",
    "TemporalPositionIndex", "ConvolutionKernel", "SliceThickness", "FilterType", "ReconstructionDiameter",
    "NumberOfFrames", "LossyImageCompression", "Rows", "Columns", "SamplesPerPixel", "PhotometricInterpretation",
    "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "PixelPaddingValue", "PixelPaddingRangeLimit",
    "PixelSpacing", "ImagePositionPatient", "ImageOrientationPatient", "RescaleSlope", "RescaleIntercept",
    "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence",
]  # fmt: skip
_TAGS = [Tag(keyword) for keyword in _KEYWORDS]

_MARK_AT = 128
"""DICOM Part 10: 128 bytes of anything, then DICM."""

_LONGEST_FIRST = 64
"""Bytes of a file's first element, where it is not marked: a UID, or the length of a group."""

_PIXEL_DATA = b"\xe0\x7f\x10\x00"
_UNDEFINED = 0xFFFFFFFF


def read_planes(path: Path) -> list[Plane]:
    """The slices of one file; none where it is not DICOM, or is a directory of DICOM files (DICOMDIR).

    Raises:
        EmptyFile, UnreadableScan
    """
    with parsing(path), path.open("rb") as file:
        stat = os.fstat(file.fileno())
        if stat.st_size == 0:
            raise EmptyFile(f"{path}: zero bytes; copy the file again")
        if not begins_as_dicom(file.read(_MARK_AT + 4)):
            return []
        file.seek(0)
        tags = pydicom.dcmread(file, stop_before_pixels=True, force=True, specific_tags=_TAGS)
        if text(tags.file_meta, "MediaStorageSOPClassUID") == MediaStorageDirectoryStorage:
            return []
        return planes_of(tags, _header(tags, path, stat, file))


def begins_as_dicom(start: bytes) -> bool:
    """Whether a file of these first bytes is DICOM: marked, or (as old exporters write) beginning with its elements."""
    if start[_MARK_AT:] == b"DICM":
        return True
    group, vr = start[:2], start[4:6]
    if group in (b"\2\0", b"\x08\0"):
        return vr.isupper() or int.from_bytes(start[4:8], "little") <= _LONGEST_FIRST < len(start)
    return group == b"\0\x08" and vr.isupper()


def _header(tags: FileDataset, path: Path, stat: os.stat_result, file: BinaryIO) -> FileHeader:
    syntax = text(tags.file_meta, "TransferSyntaxUID") or _bare_syntax(tags)
    pixels_at, pixels_bytes = _pixels(file, syntax)
    frames = decimal(tags, "NumberOfFrames")
    return FileHeader(
        path=path,
        size=stat.st_size,
        changed_ns=stat.st_mtime_ns,
        syntax=syntax,
        sop_class=text(tags, "SOPClassUID"),
        sop_uid=text(tags, "SOPInstanceUID"),
        series_uid=text(tags, "SeriesInstanceUID"),
        patient=text(tags, "PatientID"),
        manufacturer=text(tags, "Manufacturer"),
        modality=text(tags, "Modality").upper(),
        series_number=text(tags, "SeriesNumber"),
        series_description=text(tags, "SeriesDescription"),
        lossy=text(tags, "LossyImageCompression"),
        layout=_layout(tags),
        frames=1 if frames is None else int(frames),
        pixels_at=pixels_at,
        pixels_bytes=pixels_bytes,
    )


_shared_layout = lru_cache(maxsize=256)(Layout)
"""The slices of a series hold one layout, not one each."""


def _layout(tags: FileDataset) -> Layout:
    representation = short(tags, "PixelRepresentation")
    return _shared_layout(
        short(tags, "Rows"),
        short(tags, "Columns"),
        short(tags, "SamplesPerPixel"),
        text(tags, "PhotometricInterpretation"),
        short(tags, "BitsAllocated"),
        short(tags, "BitsStored"),
        short(tags, "HighBit"),
        representation,
        short(tags, "PixelPaddingValue", is_signed=representation == 1),
        short(tags, "PixelPaddingRangeLimit", is_signed=representation == 1),
    )


def _bare_syntax(tags: FileDataset) -> str:
    """Of a file without a meta group: as pydicom found its bytes to be."""
    is_implicit, is_little = tags.original_encoding
    if not is_little:
        return str(ExplicitVRBigEndian)
    return str(ImplicitVRLittleEndian if is_implicit else ExplicitVRLittleEndian)


def _pixels(file: BinaryIO, syntax: str) -> tuple[int | None, int]:
    """Where the pixels begin and how many bytes they take; (None, 0) where that cannot be told at a glance."""
    if syntax not in (ImplicitVRLittleEndian, ExplicitVRLittleEndian):
        return None, 0
    start = file.read(12)
    is_explicit = start[4:6] in (b"OW", b"OB") and start[6:8] == b"\0\0"
    if start[:4] != _PIXEL_DATA or is_explicit != (syntax == ExplicitVRLittleEndian):
        return None, 0
    size = int.from_bytes(start[8:12] if is_explicit else start[4:8], "little")
    if size == _UNDEFINED:
        return None, 0
    return file.tell() - (0 if is_explicit else 4), size
