"""Write a CT volume as a series of CT Image Storage files, the same bytes each time.

In:  `CtVolume`, what the scanner would say about it (`Acquisition`) and how it stores numbers (`Encoding`).
Out: one Explicit VR Little Endian file a slice, named by InstanceNumber; every UID derived from names under 2.25.

The elements that all slices share are encoded once a series: that is four fifths of the time of writing it.
Source: DICOM PS3.3 A.3 (CT Image IOD), PS3.5 B.2 (UIDs under 2.25), PS3.10 (file format).
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_data_element
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian
from pydicom.valuerep import format_number_as_ds

from data.errors import BadVoxels
from data.volume import CtVolume

PREAMBLE = bytes(128) + b"DICM"

WHOLE = 1e-2
"""Distance from a whole number that single precision may add; half a step of a slope is far outside."""


@dataclass(frozen=True)
class Encoding:
    """How Hounsfield units become stored numbers: hu = stored * slope + intercept."""

    slope: float = 1.0
    intercept: float = -1024.0
    is_signed: bool = False
    bits_stored: int = 12
    padding_hu: int | None = None
    """What stands where the scanner reconstructs nothing, and is tagged as PixelPaddingValue; None: no such tag."""

    def stored(self, hu_ZYX: NDArray[np.int16]) -> NDArray[Any]:
        """Hounsfield units → 16-bit numbers as they lie in the file.

        Raises:
            BadVoxels: a value does not fit the bits stored, or lies between two steps of the slope.
        """
        exact = (hu_ZYX.astype(np.float32) - np.float32(self.intercept)) / np.float32(self.slope)
        whole = np.rint(exact)
        low, high = self.range()
        if whole.min() < low or whole.max() > high or np.abs(exact - whole).max() > WHOLE:
            raise BadVoxels(
                f"HU from {hu_ZYX.min()} to {hu_ZYX.max()} cannot be stored as {self.bits_stored} bits from {low} to "
                f"{high} with slope {self.slope:g} and intercept {self.intercept:g}; choose another encoding"
            )
        stored: NDArray[Any] = whole.astype("<i2" if self.is_signed else "<u2")
        return stored

    def range(self) -> tuple[int, int]:
        """Lowest and highest number that can be stored."""
        if self.is_signed:
            return -(1 << (self.bits_stored - 1)), (1 << (self.bits_stored - 1)) - 1
        return 0, (1 << self.bits_stored) - 1


@dataclass(frozen=True)
class Acquisition:
    """Who was scanned, when and on what."""

    patient: str
    """PatientID"""
    study_date: str
    """YYYYMMDD"""
    manufacturer: str
    model: str
    kernel: str
    kvp: int
    key: str
    """What the UIDs derive from: another one for every series ever written."""
    is_ascending: bool = True
    """InstanceNumber ascends with the slice index of the volume; False: it descends."""


def derive_uid(*address: str | int) -> UID:
    """A UID that depends on its address only."""
    digest = hashlib.sha256("/".join(map(str, ("fedvox", *address))).encode()).digest()
    # A UUID's version and variant bits (RFC 9562, version 8), as PS3.5 B.2 wants one behind 2.25.
    number = int.from_bytes(digest[:16], "big")
    number = number & ~(0xF << 76) | (0x8 << 76)
    number = number & ~(0x3 << 62) | (0x2 << 62)
    return UID(f"2.25.{number}")


def write_series(folder: Path, volume: CtVolume, acquisition: Acquisition, encoding: Encoding) -> list[Path]:
    """Write every slice of a volume into a folder, which is made if need be.

    Returns the files in the order of the volume's slices.

    Raises:
        BadVoxels: Hounsfield units that the encoding cannot hold.
        OSError: the folder cannot be written, or the disk is full.
    """
    stored_ZYX = encoding.stored(volume.hu_ZYX)
    shared = _encoded(_shared(volume, acquisition, encoding))
    meta = _encoded(_meta())
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for k, stored_YX in enumerate(stored_ZYX):
        number = k + 1 if acquisition.is_ascending else len(stored_ZYX) - k
        own = _encoded(_of_slice(volume, acquisition, k, number, stored_YX))
        path = folder / f"IM{number:04d}.dcm"
        head = _meta_group({**meta, **_encoded(_meta_of(acquisition, number))})
        path.write_bytes(PREAMBLE + head + _in_order({**shared, **own}))
        paths.append(path)
    return paths


def _shared(volume: CtVolume, acquisition: Acquisition, encoding: Encoding) -> Dataset:
    """What is the same in all slices."""
    dataset = Dataset()
    _describe_study(dataset, acquisition)
    _describe_pixels(dataset, volume, encoding)
    return dataset


def _describe_study(dataset: Dataset, acquisition: Acquisition) -> None:
    patient = acquisition.patient
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    dataset.SOPClassUID = CTImageStorage
    dataset.StudyDate = dataset.SeriesDate = dataset.AcquisitionDate = dataset.ContentDate = acquisition.study_date
    dataset.StudyTime = dataset.ContentTime = "120000"
    dataset.AccessionNumber = dataset.ReferringPhysicianName = dataset.StudyID = ""
    dataset.Modality = "CT"
    dataset.Manufacturer = acquisition.manufacturer
    dataset.ManufacturerModelName = acquisition.model
    dataset.PatientName = f"Phantom^{patient}"
    dataset.PatientID = patient
    dataset.PatientBirthDate = dataset.PatientSex = ""
    dataset.BodyPartExamined = "CHEST"
    dataset.KVP = str(acquisition.kvp)
    dataset.ConvolutionKernel = acquisition.kernel
    dataset.PatientPosition = "HFS"
    dataset.StudyInstanceUID = derive_uid("study", acquisition.key)
    dataset.SeriesInstanceUID = derive_uid("series", acquisition.key)
    dataset.SeriesNumber = dataset.AcquisitionNumber = 1
    dataset.FrameOfReferenceUID = derive_uid("frame", acquisition.key)
    dataset.PositionReferenceIndicator = ""


def _describe_pixels(dataset: Dataset, volume: CtVolume, encoding: Encoding) -> None:
    thickness, row, column = volume.spacing_zyx_mm
    dataset.SliceThickness = _ds(thickness)
    dataset.ImageOrientationPatient = [_ds(volume.direction[i][axis]) for axis in (0, 1) for i in range(3)]
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    _, dataset.Rows, dataset.Columns = volume.hu_ZYX.shape
    dataset.PixelSpacing = [_ds(row), _ds(column)]
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, encoding.bits_stored, encoding.bits_stored - 1
    dataset.PixelRepresentation = int(encoding.is_signed)
    if encoding.padding_hu is not None:
        padding = round((encoding.padding_hu - encoding.intercept) / encoding.slope)
        dataset.add_new("PixelPaddingValue", "SS" if encoding.is_signed else "US", padding)
    dataset.RescaleIntercept, dataset.RescaleSlope = _ds(encoding.intercept), _ds(encoding.slope)
    dataset.RescaleType = "HU"


def _of_slice(volume: CtVolume, acquisition: Acquisition, k: int, number: int, stored_YX: NDArray[Any]) -> Dataset:
    """What is a slice's own."""
    position = volume.voxel_to_world((k, 0, 0))
    across, down, _ = np.transpose(volume.direction)
    dataset = Dataset()
    dataset.SOPInstanceUID = _instance_uid(acquisition, number)
    dataset.InstanceNumber = number
    dataset.ImagePositionPatient = [_ds(mm) for mm in position]
    dataset.SliceLocation = _ds(float(np.dot(np.cross(across, down), position)))
    dataset.add_new("PixelData", "OW", stored_YX.tobytes())
    return dataset


def _meta() -> Dataset:
    """What the file meta information (PS3.10 7.1) says of all slices."""
    meta = FileMetaDataset()
    meta.FileMetaInformationVersion = b"\x00\x01"
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = derive_uid("implementation")
    meta.ImplementationVersionName = "FEDVOX"
    return meta


def _meta_of(acquisition: Acquisition, number: int) -> Dataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPInstanceUID = _instance_uid(acquisition, number)
    return meta


def _meta_group(elements: dict[int, bytes]) -> bytes:
    """The group with its length in front, which this group alone has."""
    body = _in_order(elements)
    length = FileMetaDataset()
    length.FileMetaInformationGroupLength = len(body)
    return _in_order(_encoded(length)) + body


def _instance_uid(acquisition: Acquisition, number: int) -> UID:
    return derive_uid("instance", acquisition.key, number)


def _in_order(elements: dict[int, bytes]) -> bytes:
    return b"".join(elements[tag] for tag in sorted(elements))


def _encoded(dataset: Dataset) -> dict[int, bytes]:
    """Each element's bytes in Explicit VR Little Endian, by tag; in order of tags they make a data set."""
    return {int(element.tag): _element(element) for element in dataset}


def _element(element: DataElement) -> bytes:
    buffer = DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = True, False
    write_data_element(buffer, element, "utf-8")
    return buffer.getvalue()


def _ds(number: float) -> str:
    """A decimal string: at most 16 characters (PS3.5 6.2)."""
    return str(format_number_as_ds(float(number)))
