"""Stored pixels of a slice, as numbers: read straight from the file where they are uncompressed, else decoded.

Big endian, deflated, 8-bit and run-length encoded pixels take pydicom's own way; other compressions a process of their
own (`data.dicom.decoding`).

A file must be the one whose header was read: its size and time are compared, so that no slice gets another's numbers.
"""

import os
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom import config
from pydicom.dataset import Dataset
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.utils import pixel_array
from pydicom.uid import (
    UID,
    AllTransferSyntaxes,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)

from data.dicom.decoding import DecodingProcess
from data.dicom.elements import parsing
from data.dicom.plane import Layout, Plane
from data.errors import (
    BadVoxels,
    ChangedFile,
    LossyImage,
    MissingHeader,
    TruncatedScan,
    UndecodableScan,
)

_LOSSY = {f"1.2.840.10008.1.2.4.{n}" for n in (50, 51, 53, 55, 81)}
_EITHER = {f"1.2.840.10008.1.2.4.{n}" for n in (91, 203)}
"""JPEG 2000 in general and its high-throughput sibling may be either; they are lossless where the header says so."""

_PURE_PYTHON = {
    ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian, RLELossless
}  # fmt: skip

_GREY = ("MONOCHROME1", "MONOCHROME2")
"""Which end is dark on a screen; Hounsfield units are the same."""


def refuse_unreadable(plane: Plane, *, accept: frozenset[str]) -> None:
    """Say from the header alone what reading the pixels would run into.

    Args:
        plane: any slice.
        accept: codes of what the hospital takes knowingly: `lossy-image`.

    Raises:
        UndecodableScan, TruncatedScan, LossyImage, BadVoxels, MissingHeader
    """
    _refuse_layout(plane)
    _refuse_syntax(plane)
    _refuse_truncated(plane)
    if is_lossy(plane) and LossyImage.code not in accept:
        raise LossyImage(
            f"{plane.name}: compressed with loss ({_syntax_name(plane)}), so its voxels are not what was measured; "
            "export it without, or accept it with source.accept: [lossy-image]"
        )


def is_lossy(plane: Plane) -> bool:
    """Whether voxels have lost something, now or earlier."""
    header = plane.header
    return header.lossy == "01" or header.syntax in _LOSSY or (header.syntax in _EITHER and header.lossy != "00")


def _refuse_layout(plane: Plane) -> None:
    layout = plane.header.layout
    if layout.samples != 1 or layout.photometric not in _GREY:
        raise BadVoxels(
            f"{plane.name}: {layout.samples} values a pixel, {layout.photometric or 'no photometric interpretation'}; "
            "a CT slice has one grey value a pixel, leave the file out"
        )
    allocated, stored, high = layout.bits_allocated, layout.bits_stored, layout.high_bit
    if None in (allocated, stored) or layout.representation not in (0, 1):
        raise MissingHeader(
            f"{plane.name}: BitsAllocated {allocated}, BitsStored {stored}, PixelRepresentation "
            f"{layout.representation}; without them pixels are no numbers, export the series again"
        )
    if allocated not in (8, 16, 32) or not 1 <= (stored or 0) <= allocated or high not in (None, (stored or 0) - 1):
        raise BadVoxels(
            f"{plane.name}: {stored} bits of {allocated}, the highest at {high}: no layout of pixels; export it again"
        )


def _refuse_syntax(plane: Plane) -> None:
    if not _is_decodable(plane.header.syntax):
        raise UndecodableScan(
            f"{plane.name}: in transfer syntax {_syntax_name(plane)}, which cannot be decoded here; export it "
            "uncompressed"
        )


def _is_decodable(syntax: str) -> bool:
    try:
        return syntax in AllTransferSyntaxes and get_decoder(syntax).is_available
    except NotImplementedError:
        return False


def _syntax_name(plane: Plane) -> str:
    return UID(plane.header.syntax, validation_mode=config.IGNORE).name or "none"


def _refuse_truncated(plane: Plane) -> None:
    header = plane.header
    if header.pixels_at is None:
        return
    needed, there = header.frames * _frame_bytes(header.layout), header.size - header.pixels_at
    if min(there, header.pixels_bytes) < needed:
        raise TruncatedScan(
            f"{plane.name}: {min(there, header.pixels_bytes)} bytes of pixels, {needed} are needed; the file is cut "
            "short, copy or export it again"
        )


def _frame_bytes(layout: Layout) -> int:
    return (layout.rows or 0) * (layout.columns or 0) * (layout.bits_allocated or 0) // 8


class PixelReader:
    """Reads slices one after another; frames of one file in a row open it once."""

    def __init__(self) -> None:
        self._path: Path | None = None
        self._file: BinaryIO | None = None
        self._dataset: Dataset | None = None
        self._decoder: DecodingProcess | None = None
        self._buffer: NDArray[Any] = np.empty(0, np.uint8)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()
        if self._decoder is not None:
            self._decoder.__exit__(kind, error, trace)

    def stored(self, plane: Plane) -> NDArray[Any]:
        """The numbers of a slice (Y, X) as the file has them, all bits; valid until the next call.

        Raises:
            UnreadableScan: changed since its header was read, damaged, or undecodable.
        """
        file = self._open(plane)
        if plane.header.pixels_at is not None and plane.header.layout.bits_allocated == 16:
            return self._native(file, plane)
        stored = self._decoded(file, plane) if plane.header.syntax in _PURE_PYTHON else self._decompressed(plane)
        if stored.shape != (plane.header.layout.rows, plane.header.layout.columns):
            raise BadVoxels(f"{plane.name}: pixels of shape {stored.shape}; a CT slice has one grey value a pixel")
        return stored

    def _open(self, plane: Plane) -> BinaryIO:
        path = plane.header.path
        if self._file is None or path != self._path:
            self._close()
            with parsing(path):
                self._file = path.open("rb", buffering=0)
            self._path = path
            _refuse_changed(plane, self._file)
        return self._file

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
        self._path = self._file = self._dataset = None

    def _native(self, file: BinaryIO, plane: Plane) -> NDArray[Any]:
        layout, size = plane.header.layout, _frame_bytes(plane.header.layout)
        if len(self._buffer) != size:
            self._buffer = np.empty(size, np.uint8)
        with parsing(plane.header.path):
            got = os.preadv(file.fileno(), [self._buffer.data], (plane.header.pixels_at or 0) + plane.frame * size)
        if got != size:
            raise TruncatedScan(f"{plane.name}: cut short while it was read; copy it again")
        stored: NDArray[Any] = self._buffer.view("<i2" if layout.representation else "<u2")
        return stored.reshape(layout.rows or 0, layout.columns or 0)

    def _decoded(self, file: BinaryIO, plane: Plane) -> NDArray[Any]:
        with parsing(plane.header.path, as_error=UndecodableScan):
            if self._dataset is None:
                file.seek(0)
                self._dataset = pydicom.dcmread(file, force=True)
                self._dataset.file_meta.TransferSyntaxUID = UID(plane.header.syntax)
            frame = plane.frame if plane.header.frames > 1 else None
            return pixel_array(self._dataset, index=frame, correct_unused_bits=False)

    def _decompressed(self, plane: Plane) -> NDArray[Any]:
        if self._decoder is None:
            self._decoder = DecodingProcess()
        return self._decoder.decode(plane)


def _refuse_changed(plane: Plane, file: BinaryIO) -> None:
    now = os.fstat(file.fileno())
    if (now.st_size, now.st_mtime_ns) != (plane.header.size, plane.header.changed_ns):
        raise ChangedFile(f"{plane.header.path}: has changed since its header was read; start again")
