"""What one CT slice says of itself, without its pixels.

Only the tags that decide where a slice belongs and how it is read: half a millisecond a file.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pydicom
from pydicom.dataset import FileDataset
from pydicom.errors import InvalidDicomError

from data.errors import MissingHeader, UnreadableScan, WrongModality
from data.volume import Point

Orientation = tuple[float, float, float, float, float, float]

_PLACE_TAGS = [
    "SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "PatientID", "Manufacturer", "Modality",
    "SeriesNumber", "SeriesDescription",
    "Rows", "Columns", "PixelSpacing", "ImagePositionPatient", "ImageOrientationPatient",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class SeriesTags:
    """To which series, patient and scanner a file belongs; text as the header has it."""

    series_uid: str
    patient: str
    manufacturer: str
    """May be empty, as may the modality."""
    modality: str


@dataclass(frozen=True, slots=True)
class SlicePlace:
    """Where one slice lies in the patient."""

    file: str
    rows: int
    columns: int
    spacing_yx_mm: tuple[float, float]
    """Distance of row centres, of column centres (PixelSpacing (0028,0030))."""
    position_xyz_mm: Point
    """Centre of the first voxel (ImagePositionPatient (0020,0032))."""
    orientation: Orientation
    """Directions of increasing column index, then of increasing row index (ImageOrientationPatient (0020,0037))."""


def is_dicom(path: Path) -> bool:
    """Whether a file begins as DICOM Part 10 says: 128 bytes of anything, then DICM."""
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"


def read_tags(path: Path) -> FileDataset:
    """The tags of one file that place it. Raises UnreadableScan."""
    return _read(path, specific_tags=_PLACE_TAGS)


def read_whole(path: Path) -> FileDataset:
    """One file with its pixels (not decoded yet). Raises UnreadableScan."""
    return _read(path, specific_tags=None)


def series_tags(tags: FileDataset, *, file: str) -> SeriesTags:
    """To whom a file belongs.

    Raises:
        MissingHeader: no series, or no patient: splits and privacy count patients, so each needs a name.
    """
    series, patient, maker, modality = (
        str(tags.get(name) or "").strip() for name in ("SeriesInstanceUID", "PatientID", "Manufacturer", "Modality")
    )
    for name, value in (("SeriesInstanceUID", series), ("PatientID", patient)):
        if not value:
            raise MissingHeader(
                f"{file}: no {name}; give each {name.removesuffix('InstanceUID')} its own, or leave it out"
            )
    return SeriesTags(series, patient, maker, modality)


def place_of(tags: FileDataset, *, file: str) -> SlicePlace:
    """Where a slice lies.

    Raises:
        WrongModality: not CT.
        MissingHeader: a tag is absent or has not as many numbers as it should.
    """
    modality = str(_required(tags, "Modality", file))
    if modality != "CT":
        raise WrongModality(f"{file}: Modality is {modality!r}; only CT has Hounsfield units, leave the file out")
    orientation = _numbers(tags, "ImageOrientationPatient", 6, file)
    return SlicePlace(
        file=file,
        rows=int(_required(tags, "Rows", file)),
        columns=int(_required(tags, "Columns", file)),
        spacing_yx_mm=cast(tuple[float, float], _numbers(tags, "PixelSpacing", 2, file)),
        position_xyz_mm=cast(Point, _numbers(tags, "ImagePositionPatient", 3, file)),
        orientation=cast(Orientation, orientation),
    )


def _read(path: Path, *, specific_tags: list[str] | None) -> FileDataset:
    with warnings.catch_warnings():
        # pydicom warns of values that break a rule of the standard; those that matter here are checked by name.
        warnings.simplefilter("ignore", UserWarning)
        try:
            return pydicom.dcmread(path, stop_before_pixels=specific_tags is not None, specific_tags=specific_tags)
        except InvalidDicomError as error:
            raise UnreadableScan(f"{path}: not a DICOM file (no DICM mark); leave it out") from error
        except (OSError, EOFError, ValueError, KeyError, AttributeError, NotImplementedError) as error:
            raise UnreadableScan(f"{path}: cannot be read ({error}); export the series again") from error


def _required(tags: FileDataset, name: str, file: str) -> Any:
    value = tags.get(name)
    if value is None or value == "":
        raise MissingHeader(f"{file}: no {name}; without it voxels have no place, export the series again")
    return value


def _numbers(tags: FileDataset, name: str, count: int, file: str) -> tuple[float, ...]:
    value = _required(tags, name, file)
    try:
        numbers = tuple(float(v) for v in cast(Sequence[float], value))
    except (TypeError, ValueError):
        numbers = ()
    if len(numbers) != count:
        raise MissingHeader(f"{file}: {name} is {value!r}; {count} numbers are needed, export the series again")
    return numbers
