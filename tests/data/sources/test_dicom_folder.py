import os

import numpy as np
import pytest

from data.errors import BadTable, EmptySource, MissingFolder, MissingHeader, UnknownScan
from data.samples import Candidate, ScanRef
from data.sources import DicomFolder

HU = np.random.default_rng(7).integers(-1000, 500, (4, 6, 6)).astype(np.int16)


@pytest.fixture
def folder(tmp_path, write_series):
    """Two series of two patients, mixed in one nested folder with other files."""
    write_series(tmp_path / "study" / "x", HU, uid="1.2.20", patient="B")
    write_series(tmp_path / "study" / "y", HU + np.int16(1), uid="1.2.10", patient="A")
    for file in (tmp_path / "study" / "y").iterdir():
        file.rename(tmp_path / "study" / "x" / file.with_suffix("").name)
    (tmp_path / "readme.txt").write_text("exported yesterday")
    (tmp_path / "empty.dcm").touch()
    (tmp_path / "labels.csv").write_text(
        "series_uid,x_mm,y_mm,z_mm,label,diameter_mm\n1.2.10,1,2,3,1,6.5\n1.2.20,0,0,1,0,\n1.2.10,4,4,2,0,\n"
    )
    return tmp_path


def test_series_are_told_apart_by_uid_and_sorted(folder):
    source = DicomFolder(str(folder))
    assert source.scans() == [ScanRef("1.2.10", "A", "MAKER"), ScanRef("1.2.20", "B", "MAKER")]
    np.testing.assert_array_equal(source.read(source.scans()[0]).hu_ZYX, HU + 1)
    np.testing.assert_array_equal(source.read(source.scans()[1]).hu_ZYX, HU)


def test_labels_come_in_the_order_of_the_file(folder):
    source = DicomFolder(str(folder))
    first, second = source.scans()
    assert source.candidates(first) == [Candidate((1.0, 2.0, 3.0), 1, 6.5), Candidate((4.0, 4.0, 2.0), 0, None)]
    assert source.candidates(second) == [Candidate((0.0, 0.0, 1.0), 0, None)]


def test_scans_without_labels_can_be_read_too(folder):
    source = DicomFolder(str(folder), labels=None)
    assert [source.candidates(ref) for ref in source.scans()] == [[], []]


def test_a_label_of_an_unknown_series_is_refused_before_any_scan_is_read(folder):
    with (folder / "labels.csv").open("a") as file:
        file.write("9.9.9,1,2,3,1,\n")
    with pytest.raises(UnknownScan, match=r"9\.9\.9"):
        DicomFolder(str(folder)).scans()


def test_a_label_that_is_neither_is_refused_with_its_line(folder):
    with (folder / "labels.csv").open("a") as file:
        file.write("1.2.10,1,2,3,2,\n")
    with pytest.raises(BadTable, match="line 5: label is 2"):
        DicomFolder(str(folder)).scans()


def test_the_stamp_follows_the_files_and_not_the_folder(folder, tmp_path):
    before = {ref.uid: DicomFolder(str(folder)).stamp(ref) for ref in DicomFolder(str(folder)).scans()}
    moved = folder.rename(tmp_path.with_name(tmp_path.name + "-moved"))
    assert {ref.uid: DicomFolder(str(moved)).stamp(ref) for ref in DicomFolder(str(moved)).scans()} == before
    touched = moved / "study" / "x" / "slice000.dcm"  # one of 1.2.20
    os.utime(touched, ns=(0, touched.stat().st_mtime_ns + 1))
    after = {ref.uid: DicomFolder(str(moved)).stamp(ref) for ref in DicomFolder(str(moved)).scans()}
    assert after["1.2.10"] == before["1.2.10"]
    assert after["1.2.20"] != before["1.2.20"]


def test_other_modalities_are_left_alone(folder, write_series):
    write_series(folder / "mr", HU, uid="1.2.30", alter=lambda dataset, z: setattr(dataset, "Modality", "MR"))
    assert [ref.uid for ref in DicomFolder(str(folder)).scans()] == ["1.2.10", "1.2.20"]


@pytest.mark.parametrize("tag", ["PatientID", "SeriesInstanceUID"])
def test_a_file_of_nobody_is_refused(tmp_path, write_series, tag):
    write_series(tmp_path, HU, alter=lambda dataset, z: setattr(dataset, tag, ""))
    with pytest.raises(MissingHeader, match=rf"slice000\.dcm: no {tag}"):
        DicomFolder(str(tmp_path), labels=None).scans()


def test_a_folder_that_is_not_there_or_empty_is_named(tmp_path):
    with pytest.raises(MissingFolder, match="nowhere"):
        DicomFolder(str(tmp_path / "nowhere")).scans()
    with pytest.raises(EmptySource, match="no CT series"):
        DicomFolder(str(tmp_path)).scans()


def test_a_scan_of_another_source_is_unknown(folder):
    with pytest.raises(UnknownScan, match=r"1\.2\.99"):
        DicomFolder(str(folder)).read(ScanRef("1.2.99", "A"))


def test_a_survey_lists_every_stack_accepted_or_refused(folder, write_series):
    write_series(folder / "gap", HU, uid="1.2.40", leave_out=[1])
    write_series(folder / "mr", HU, uid="1.2.50", alter=lambda dataset, z: setattr(dataset, "Modality", "MR"))
    found = {stack.uid: stack for stack in DicomFolder(str(folder)).survey()}
    assert {uid: type(stack.error).__name__ for uid, stack in found.items()} == {
        "1.2.10": "NoneType",
        "1.2.20": "NoneType",
        "1.2.40": "MissingSlice",
        "1.2.50": "WrongModality",
    }
    assert found["1.2.10"].ref in DicomFolder(str(folder)).scans()
    assert (found["1.2.40"].slices, len(found["1.2.40"].files)) == (3, 3)
