import os

import numpy as np
import pytest

from data.errors import (
    BadSetting,
    BadTable,
    ContradictoryPatients,
    DuplicatePosition,
    EmptyFile,
    EmptySource,
    LossyImage,
    MissingFolder,
    MissingPatient,
    MissingSeries,
    MissingSlice,
    ScanError,
    UnknownScan,
    WrongModality,
)
from data.samples import Candidate, ScanRef
from data.sources import DicomFolder

HU = np.random.default_rng(7).integers(-1000, 500, (4, 6, 6)).astype(np.int16)
HU6 = np.random.default_rng(8).integers(-1000, 500, (6, 6, 6)).astype(np.int16)


@pytest.fixture
def folder(tmp_path, write_series):
    """Two series of two patients, mixed in one nested folder with other files."""
    write_series(tmp_path / "study" / "x", HU, uid="1.2.20", patient="B")
    write_series(tmp_path / "study" / "y", HU + np.int16(1), uid="1.2.10", patient="A")
    for file in (tmp_path / "study" / "y").iterdir():
        file.rename(tmp_path / "study" / "x" / file.with_suffix("").name)
    (tmp_path / "readme.txt").write_text("exported yesterday")
    (tmp_path / ".nothing").touch()
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


@pytest.mark.parametrize("tag, error", [("PatientID", MissingPatient), ("SeriesInstanceUID", MissingSeries)])
def test_a_file_of_nobody_is_refused(tmp_path, write_series, tag, error):
    write_series(tmp_path, HU, alter=lambda dataset, z: setattr(dataset, tag, ""))
    with pytest.raises(error, match=rf"slice000\.dcm: no {tag}"):
        DicomFolder(str(tmp_path), labels=None).scans()


def test_a_folder_that_is_not_there_or_empty_is_named(tmp_path):
    with pytest.raises(MissingFolder, match="nowhere"):
        DicomFolder(str(tmp_path / "nowhere")).scans()
    with pytest.raises(EmptySource, match="no usable CT series"):
        DicomFolder(str(tmp_path)).scans()


def test_a_scan_of_another_source_is_unknown(folder):
    with pytest.raises(UnknownScan, match=r"1\.2\.99"):
        DicomFolder(str(folder)).read(ScanRef("1.2.99", "A"))


def codes(stacks):
    return {stack.uid: getattr(stack.error, "code", None) for stack in stacks}


@pytest.fixture
def troubled(folder, write_series):
    """Beside two usable series: one with a gap, an MR, a scout, another patient's slice, empty and cut-off files."""
    write_series(folder / "gap", HU6, uid="1.2.40", leave_out=[2])
    write_series(folder / "mr", HU, uid="1.2.50", alter=lambda dataset, z: setattr(dataset, "Modality", "MR"))
    scout = lambda d, z: setattr(d, "ImageType", ["ORIGINAL", "PRIMARY", "LOCALIZER"])  # noqa: E731
    write_series(folder / "scout", HU[:1], uid="1.2.60", alter=scout)
    write_series(folder / "two", HU, uid="1.2.70", alter=lambda d, z: setattr(d, "PatientID", "AB"[z % 2]))
    (folder / "empty.dcm").touch()
    return folder


def test_a_survey_lists_every_stack_accepted_or_refused(troubled):
    source = DicomFolder(str(troubled))
    assert codes(source.survey()) == {
        "": "empty-file",
        "1.2.10": None,
        "1.2.20": None,
        "1.2.40": "missing-slice",
        "1.2.50": "wrong-modality",
        "1.2.60": "localiser",
        "1.2.70": "contradictory-patients",
    }
    for stack in source.survey():
        assert "\n" not in str(stack.error)
        assert stack.files
    gap = source.survey()[3]
    assert (gap.slices, len(gap.files), gap.patient) == (5, 5, "P1")


def test_a_survey_tells_how_far_it_is(folder):
    told = []
    DicomFolder(str(folder)).survey(progress=lambda done, of: told.append((done, of)))
    assert told == [(k + 1, 11) for k in range(11)]


def test_a_file_that_nobody_can_read_stops_the_hospital_unless_it_says_skip(troubled):
    with pytest.raises(EmptyFile, match=r"empty\.dcm: zero bytes.*on_problem: skip"):
        DicomFolder(str(troubled)).scans()
    assert [ref.uid for ref in DicomFolder(str(troubled), on_problem="skip").scans()] == ["1.2.10", "1.2.20"]


@pytest.mark.parametrize(
    "uid, error", [("1.2.40", MissingSlice), ("1.2.50", WrongModality), ("1.2.70", ContradictoryPatients)]
)
def test_a_labelled_series_that_cannot_be_used_stops_the_hospital_unless_it_says_skip(troubled, uid, error, caplog):
    (troubled / "empty.dcm").unlink()
    DicomFolder(str(troubled)).scans()  # as long as it is not labelled, it is nobody's loss
    with (troubled / "labels.csv").open("a") as file:
        file.write(f"{uid},1,2,3,1,\n")
    with pytest.raises(error):
        DicomFolder(str(troubled)).scans()
    with caplog.at_level("WARNING"):
        skipping = DicomFolder(str(troubled), on_problem="skip")
        assert [ref.uid for ref in skipping.scans()] == ["1.2.10", "1.2.20"]
    assert error.code in caplog.text
    assert codes(skipping.survey())[uid] == error.code


def test_where_nothing_is_labelled_every_scan_must_be_usable(troubled):
    (troubled / "empty.dcm").unlink()
    with pytest.raises(ScanError, match="so are 1 more"):
        DicomFolder(str(troubled), labels=None).scans()


def test_a_gap_is_interpolated_only_where_the_hospital_says_so(troubled):
    with (troubled / "labels.csv").open("a") as file:
        file.write("1.2.40,1,2,3,1,\n")
    source = DicomFolder(str(troubled), on_problem="resample")
    (gap,) = (ref for ref in source.scans() if ref.uid == "1.2.40")
    (stack,) = (stack for stack in source.survey() if stack.uid == "1.2.40")
    assert stack.notes == source.read(gap).provenance == ("1 missing slices interpolated",)
    assert len(source.read(gap).hu_ZYX) == 6


def test_what_a_hospital_accepts_is_a_list_of_codes(folder, write_series):
    write_series(folder / "a", HU, uid="1.2.30", alter=lambda d, z: setattr(d, "LossyImageCompression", "01"))
    assert codes(DicomFolder(str(folder)).survey())["1.2.30"] == LossyImage.code
    assert codes(DicomFolder(str(folder), accept=["lossy-image"]).survey())["1.2.30"] is None
    with pytest.raises(BadSetting, match="'missing-slice'; what can be accepted is lossy-image"):
        DicomFolder(str(folder), accept=["missing-slice"])
    with pytest.raises(BadSetting, match="'ignore'; there are refuse, skip, resample"):
        DicomFolder(str(folder), on_problem="ignore")


@pytest.fixture
def two_phases(tmp_path, write_series):
    for phase, shift in [(3, 0), (4, 7)]:

        def alter(dataset, z, phase=phase):
            dataset.AcquisitionNumber, dataset.SOPInstanceUID = phase, f"1.2.{phase}.{z}"

        write_series(tmp_path / str(phase), HU + np.int16(shift), uid="1.2.10", alter=alter)
    return tmp_path


def test_two_scans_in_one_series_have_names_of_their_own(two_phases):
    (two_phases / "labels.csv").write_text(
        "series_uid,x_mm,y_mm,z_mm,label\n1.2.10#acquisition 4,1,2,3,1\n1.2.10#acquisition 3,1,2,2,0\n"
    )
    source = DicomFolder(str(two_phases))
    first, second = source.scans()
    assert (first.uid, second.uid) == ("1.2.10#acquisition 3", "1.2.10#acquisition 4")
    np.testing.assert_array_equal(source.read(second).hu_ZYX, HU + 7)
    assert [c.label for c in source.candidates(second)] == [1]
    assert source.stamp(first) != source.stamp(second)


def test_a_label_must_say_which_of_two_scans_it_means(two_phases):
    (two_phases / "labels.csv").write_text("series_uid,x_mm,y_mm,z_mm,label\n1.2.10,1,2,3,1\n")
    with pytest.raises(UnknownScan, match=r"holds 2 scans, '1\.2\.10#acquisition 3' and"):
        DicomFolder(str(two_phases)).scans()


def test_a_scan_keeps_the_name_of_its_series_beside_what_is_no_scan(folder, write_series):
    scout = lambda d, z: setattr(d, "ImageType", ["ORIGINAL", "PRIMARY", "LOCALIZER"])  # noqa: E731
    write_series(folder / "scout", HU[:1], uid="1.2.10", patient="A", alter=scout)
    source = DicomFolder(str(folder))
    assert [ref.uid for ref in source.scans()] == ["1.2.10", "1.2.20"]
    assert [stack.description for stack in source.survey()][:2] == [
        "(ORIGINAL\\PRIMARY\\AXIAL)",
        "(ORIGINAL\\PRIMARY\\LOCALIZER)",
    ]


def test_real_scans_of_every_kind_in_one_folder_are_told_apart(real_data):
    """One complete series, one slice in 16 syntaxes, six odd series: all below one folder."""
    source = DicomFolder(str(real_data), labels=None, on_problem="skip")
    tilted, scan = source.scans()
    assert (tilted.patient, scan.patient) == ("dicom2nifti", "LIDC-IDRI-0314")
    found = {(stack.patient, type(stack.error), stack.slices) for stack in source.survey()}
    assert found == {
        ("LIDC-IDRI-0314", type(None), 275),
        ("2178309", DuplicatePosition, 9),  # one slice in every lossless syntax; one of them lies there twice
        ("2178309", LossyImage, 6),
        ("dicom2nifti", type(None), 4),
        ("dicom2nifti", DuplicatePosition, 4),
        ("dicom2nifti", MissingSlice, 4),
        ("dicom2nifti", WrongModality, 2),
    }


def test_linked_folders_are_read_too_and_a_link_back_is_no_endless_way(write_series, tmp_path):
    folder = tmp_path / "exports"
    folder.mkdir()
    write_series(tmp_path / "elsewhere", np.zeros((3, 4, 5), np.int16))
    (folder / "linked").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (tmp_path / "elsewhere" / "back").symlink_to(folder, target_is_directory=True)
    assert len(DicomFolder(str(folder), labels=None).scans()) == 1
