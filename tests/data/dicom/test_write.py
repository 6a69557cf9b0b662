"""What we write is what others read: ITK's voxels and geometry, pydicom's validation, the CT Image module's tags."""

from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK
from hypothesis import given
from hypothesis import strategies as st
from pydicom.uid import CTImageStorage

from data.dicom import read_series
from data.dicom.write import Acquisition, Encoding, derive_uid, write_series
from data.errors import BadVoxels
from data.volume import CtVolume

SCANNED = Acquisition(
    patient="north-00001",
    study_date="20210304",
    manufacturer="Maker",
    model="Model",
    kernel="B50f",
    kvp=120,
    key="a",
)
REQUIRED = (
    "SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID", "Modality",
    "ImageType", "InstanceNumber", "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing",
    "SamplesPerPixel", "PhotometricInterpretation", "Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit",
    "PixelRepresentation", "PixelData", "RescaleIntercept", "RescaleSlope", "RescaleType",
)  # fmt: skip
"""Type 1 in the CT Image IOD (PS3.3 A.3): present, with a value."""
EMPTY_ALLOWED = (
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID",
    "ReferringPhysicianName", "AccessionNumber", "SeriesNumber", "PositionReferenceIndicator", "Manufacturer",
    "SliceThickness", "KVP", "AcquisitionNumber",
)  # fmt: skip
"""Type 2: present."""


def _itk(paths: list[Path]) -> SimpleITK.Image:
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(paths[0].parent)))
    return reader.Execute()


@pytest.fixture
def strict(monkeypatch):
    """pydicom refuses values that the standard does not allow, instead of warning."""
    monkeypatch.setattr(pydicom.config.settings, "reading_validation_mode", pydicom.config.RAISE)


@pytest.mark.parametrize("is_ascending", [True, False])
def test_itk_reads_the_same_hounsfield_units_and_geometry(tmp_path, phantom, is_ascending):
    scanned = Acquisition(**{**vars(SCANNED), "is_ascending": is_ascending})
    image = _itk(write_series(tmp_path, phantom, scanned, Encoding(is_signed=True, bits_stored=16)))
    np.testing.assert_array_equal(phantom.hu_ZYX, SimpleITK.GetArrayFromImage(image))
    np.testing.assert_allclose(image.GetSpacing(), phantom.spacing_zyx_mm[::-1], rtol=1e-9)
    np.testing.assert_allclose(image.GetOrigin(), phantom.origin_xyz_mm, rtol=1e-9)
    np.testing.assert_allclose(image.GetDirection(), np.ravel(phantom.direction), atol=1e-9)


def test_an_oblique_stack_keeps_its_place_in_the_patient(tmp_path, phantom):
    c, s = np.cos(0.3), np.sin(0.3)
    tilted = CtVolume(phantom.hu_ZYX, (2.0, 0.8, 0.8), (-10.0, 20.0, 30.0), ((1, 0, 0), (0, c, -s), (0, s, c)))
    image = _itk(write_series(tmp_path, tilted, SCANNED, Encoding(is_signed=True, bits_stored=16)))
    last = tuple(n - 1 for n in phantom.hu_ZYX.shape)
    np.testing.assert_allclose(image.TransformIndexToPhysicalPoint(last[::-1]), tilted.voxel_to_world(last), atol=1e-3)


def test_our_own_reader_gives_it_back(tmp_path, phantom):
    back = read_series(write_series(tmp_path, phantom, SCANNED, Encoding(is_signed=True, bits_stored=16)))
    np.testing.assert_array_equal(phantom.hu_ZYX, back.hu_ZYX)
    np.testing.assert_allclose(phantom.origin_xyz_mm, back.origin_xyz_mm, atol=1e-6)
    np.testing.assert_allclose(phantom.spacing_zyx_mm, back.spacing_zyx_mm, atol=1e-6)


def test_files_are_valid_ct_images(tmp_path, phantom, strict):
    encoding = Encoding(is_signed=True, bits_stored=16, padding_hu=-3024)
    paths = write_series(tmp_path, phantom, SCANNED, encoding)
    for path in paths:
        dataset = pydicom.dcmread(path)
        assert dataset.file_meta.MediaStorageSOPClassUID == CTImageStorage == dataset.SOPClassUID
        assert dataset.file_meta.MediaStorageSOPInstanceUID == dataset.SOPInstanceUID
        assert [name for name in REQUIRED if dataset[name].is_empty] == []
        assert [name for name in EMPTY_ALLOWED if name not in dataset] == []
        assert [int(element.tag) for element in dataset] == sorted(int(element.tag) for element in dataset)
        assert dataset.PixelPaddingValue == -2000  # -3024 HU with intercept -1024
    assert [pydicom.dcmread(path).InstanceNumber for path in paths] == list(range(1, len(paths) + 1))


def test_bytes_are_pydicoms_own(tmp_path, phantom):
    # Elements are encoded one by one and joined; writing the whole data set again with pydicom must change nothing.
    path = write_series(tmp_path, phantom, SCANNED, Encoding(is_signed=True, bits_stored=16))[3]
    pydicom.dcmwrite(tmp_path / "again", pydicom.dcmread(path), enforce_file_format=True)
    assert (tmp_path / "again").read_bytes() == path.read_bytes()


def test_the_same_series_is_the_same_bytes_and_another_key_other_uids(tmp_path, phantom):
    encoding = Encoding(is_signed=True, bits_stored=16)
    first, second = (write_series(tmp_path / folder, phantom, SCANNED, encoding) for folder in ("a", "b"))
    other = write_series(tmp_path / "c", phantom, Acquisition(**{**vars(SCANNED), "key": "b"}), encoding)
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    uids = {pydicom.dcmread(path).SOPInstanceUID for path in (*first, *other)}
    assert len(uids) == 2 * len(first)


@given(st.lists(st.one_of(st.text(max_size=20), st.integers()), min_size=1, max_size=4))
def test_uids_are_valid_and_follow_from_their_address(address):
    uid = derive_uid(*address)
    assert uid.is_valid
    assert uid.startswith("2.25.")
    assert uid == derive_uid(*address)
    assert uid != derive_uid(*address, "one more")


@given(
    slope=st.sampled_from([1.0, 2.0, 0.5]),
    intercept=st.sampled_from([-1024.0, -1000.0, 0.0]),
    steps=st.lists(st.integers(-500, 1500), min_size=1, max_size=50),
)
def test_stored_numbers_mean_the_same_hounsfield_units(slope, intercept, steps):
    hu = (np.array(steps).reshape(1, 1, -1) * max(slope, 1.0) + intercept).astype(np.int16)
    encoding = Encoding(slope, intercept, is_signed=True, bits_stored=16)
    np.testing.assert_array_equal(hu, encoding.stored(hu) * slope + intercept)


@pytest.mark.parametrize(
    ("hu", "encoding"),
    [
        (-2000, Encoding()),  # below an unsigned 0
        (3072, Encoding()),  # 4096: one more than 12 bits
        (1100, Encoding(is_signed=True, bits_stored=12)),  # 2124: above 2047
        (1, Encoding(slope=2.0, intercept=0.0)),  # between two steps
    ],
)
def test_what_does_not_fit_is_refused(hu, encoding):
    with pytest.raises(BadVoxels, match="cannot be stored"):
        encoding.stored(np.full((1, 2, 2), hu, np.int16))
