import numpy as np
import pytest
from pydicom import dcmread, dcmwrite
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    MediaStorageDirectoryStorage,
)

from data.dicom import read_series
from data.dicom.headers import begins_as_dicom, read_planes
from data.dicom.series import judge, volume_of
from data.errors import ChangedFile, EmptyFile, UnreadableScan

HU = np.random.default_rng(3).integers(-1000, 2000, (4, 6, 8)).astype(np.int16)


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian])
def test_a_file_without_mark_and_meta_group_is_read(write_series, tmp_path, syntax):
    paths = write_series(tmp_path / "in", HU)
    for path in paths:
        bare = Dataset(dcmread(path))
        if syntax == ExplicitVRBigEndian:
            bare.PixelData = np.frombuffer(bare.PixelData, "<i2").astype(">i2").tobytes()
        dcmwrite(tmp_path / path.stem, bare, implicit_vr=syntax.is_implicit_VR, little_endian=syntax.is_little_endian)
        assert b"DICM" not in (tmp_path / path.stem).read_bytes()
    np.testing.assert_array_equal(read_series(tmp_path / path.stem for path in paths).hu_ZYX, HU)


@pytest.mark.parametrize(
    "start, is_one",
    [
        (bytes(128) + b"DICM", True),
        (b"%PDF" + bytes(124) + b"DICM", True),
        (b"\x08\0\x05\0CS\x0a\0ISO_IR 100" + bytes(120), True),
        (b"\x08\0\x05\0\x0a\0\0\0ISO_IR 100" + bytes(120), True),
        (b"\0\x08\0\x05CS\0\x0aISO_IR 100" + bytes(120), True),
        (b"", False),
        (b"\x08\0", False),
        (b"series_uid,x_mm,y_mm,z_mm,label\n" * 5, False),
        (b"PK\x03\x04" + bytes(200), False),
        (b"\x89PNG\r\n\x1a\n" + bytes(200), False),
        (b"\x08\0\x05\0\xff\xff\xff\x7f" + bytes(200), False),
    ],
)
def test_dicom_is_known_by_how_it_begins(start, is_one):
    assert begins_as_dicom(start[:132]) is is_one


def test_what_is_not_dicom_has_no_slices(tmp_path):
    (tmp_path / "notes.txt").write_text("exported yesterday " * 20)
    assert read_planes(tmp_path / "notes.txt") == []


def test_a_directory_of_dicom_files_is_none(tmp_path):
    directory = Dataset()
    directory.FileSetID, directory.DirectoryRecordSequence = "DISC", []
    directory.file_meta = FileMetaDataset()
    directory.file_meta.MediaStorageSOPClassUID = MediaStorageDirectoryStorage
    directory.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    directory.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    directory.save_as(tmp_path / "DICOMDIR", enforce_file_format=True)
    assert read_planes(tmp_path / "DICOMDIR") == []


def test_text_in_other_alphabets_is_text(write_series, tmp_path):
    def rename(dataset, z):
        dataset.SpecificCharacterSet, dataset.PatientID = "ISO_IR 192", "Jürgen-7 "

    (plane,) = read_planes(write_series(tmp_path, HU, alter=rename)[0])
    assert plane.header.patient == "Jürgen-7"


def test_an_empty_or_unreadable_file_is_named(tmp_path):
    (tmp_path / "a.dcm").touch()
    with pytest.raises(EmptyFile, match=r"a\.dcm: zero bytes"):
        read_planes(tmp_path / "a.dcm")
    with pytest.raises(UnreadableScan, match=r"gone\.dcm"):
        read_planes(tmp_path / "gone.dcm")


def test_a_value_whose_type_is_damaged_is_not_guessed_at(write_series, tmp_path):
    (path, *_) = write_series(tmp_path, HU)
    content = path.read_bytes()
    path.write_bytes(content.replace(b"\x20\0\x32\0DS", b"\x20\0\x32\0XS"))
    with pytest.raises(UnreadableScan, match=r"ImagePositionPatient is of the type 'XS'"):
        read_planes(path)


def test_a_file_that_changed_after_its_header_was_read_is_not_trusted(write_series, tmp_path):
    paths = write_series(tmp_path, HU)
    planes = [plane for path in paths for plane in read_planes(path)]
    box = judge(planes, accept=frozenset(), resample=False)
    write_series(tmp_path, HU, patient="SOMEBODY ELSE WITH A LONG NAME")
    with pytest.raises(ChangedFile, match="start again"):
        volume_of(planes, box)
