"""A look at a hospital's data: everything wrong is a line, nothing wrong ends the look."""

import re
from dataclasses import replace

import numpy as np
import pytest

from data.check import Finding, Level, Rules, check_source
from data.check.finding import of_error
from data.errors import DataError, MissingSlice, OutsideScan
from data.preprocess import Preprocess
from data.sources import Cubes, DicomFolder
from data.statistics import Limits, Sampling

RULES = Rules(
    Preprocess(spacing_mm=2.0, size=4, window_hu=(-1000, 400)),
    Limits(ranges={"tissue_hu": (-200, 250), "labelled": (1, None), "pixel_mm": (0.2, 2.5)}, doubts={}),
    Sampling(),
)
SLICES = 24
LINE = re.compile(r"(REFUSED|WARNING|NOTE) [a-z-]+ .+ — .+")


@pytest.fixture
def body():
    """Slices of muscle in air."""
    hu_ZYX = np.full((SLICES, 40, 40), -1000, np.int16)
    hu_ZYX[:, 6:34, 6:34] = 40
    return hu_ZYX


@pytest.fixture
def folder(tmp_path, write_series, body):
    """Two sound series of two patients, labelled."""
    for n in (1, 2):
        write_series(tmp_path / f"s{n}", body, uid=f"1.2.{n}", patient=f"P{n}")
    rows = [f"1.2.{n},{10 + i},10,5,{i % 2}" for n in (1, 2) for i in range(4)]
    (tmp_path / "labels.csv").write_text("\n".join(["series_uid,x_mm,y_mm,z_mm,label", *rows]) + "\n")
    return tmp_path


def codes(checked, level=None):
    return [f.code for f in checked.findings if level in (None, f.level)]


def test_sound_data_have_notes_alone(folder):
    checked = check_source(DicomFolder(str(folder)), RULES)
    assert set(codes(checked)) == {"usable"}
    assert not checked.is_refused
    assert checked.summary.plain() == {
        "scans": 2, "patients": 2, "labels": {"positive": 4, "negative": 4}, "labelled_scans": 2,
        "scanners": {"MAKER": 2}, "spacing_mm": {"slices": (1.0, 1.0), "pixels": (1.0, 1.0)},
    }  # fmt: skip
    assert checked.statistics.numbers["tissue_hu"] == pytest.approx(40, abs=1)


def test_every_finding_is_one_line_with_a_remedy(folder, write_series, body):
    write_series(folder / "gap", body, uid="1.2.3", leave_out=[4])
    write_series(folder / "pet", body, uid="1.2.4", alter=lambda d, z: setattr(d, "Modality", "PT"))
    (folder / "s1" / "zero.dcm").write_bytes(b"")
    (folder / "junk.dcm").write_bytes((folder / "s1" / "slice000.dcm").read_bytes()[:250])
    (folder / "s1" / "readme.txt").write_text("not DICOM")
    checked = check_source(DicomFolder(str(folder), on_problem="skip"), RULES)
    assert all(LINE.fullmatch(finding.line) for finding in checked.findings)
    assert {"usable", "missing-slice", "wrong-modality", "empty-file"} <= set(codes(checked))
    assert codes(checked, Level.NOTE).count("usable") == 2
    assert "wrong-modality" in codes(checked, Level.NOTE)
    assert "missing-slice" in codes(checked, Level.WARNING)
    assert not checked.is_refused


def test_what_stops_a_hospital_is_refused_and_the_rest_is_looked_at(folder, write_series, body):
    write_series(folder / "s1b", body, uid="1.2.3", patient="P3", leave_out=[4])
    with (folder / "labels.csv").open("a") as labels:
        labels.write("1.2.3,10,10,5,1\n")
    checked = check_source(DicomFolder(str(folder)), RULES)
    assert codes(checked, Level.REFUSED) == ["missing-slice"]
    assert (checked.is_refused, checked.summary.scans) == (True, 2)
    assert checked.statistics is not None


def test_an_unlabelled_series_that_cannot_be_used_is_a_warning(folder, write_series, body):
    write_series(folder / "other", body, uid="1.2.3", leave_out=[4])
    checked = check_source(DicomFolder(str(folder)), RULES)
    assert (codes(checked, Level.WARNING), checked.is_refused) == (["missing-slice"], False)


def test_without_labels_every_series_counts(folder, write_series, body):
    write_series(folder / "other", body, uid="1.2.3", leave_out=[4])
    checked = check_source(DicomFolder(str(folder), labels=None), RULES)
    assert codes(checked, Level.REFUSED) == ["missing-slice"]
    assert "no-labels" in codes(checked, Level.NOTE)


def test_pixels_that_cannot_be_read_are_named_and_not_measured(folder):
    file = sorted((folder / "s2").iterdir())[3]
    content = file.read_bytes()
    file.write_bytes(content[:-300])
    checked = check_source(DicomFolder(str(folder)), RULES)
    assert checked.is_refused
    assert file.name in " ".join(finding.what for finding in checked.findings)
    assert checked.statistics.counts["patients"] == 1


def test_a_label_outside_its_scan_is_refused_by_number(folder):
    with (folder / "labels.csv").open("a") as labels:
        labels.write("1.2.1,500,10,5,1\n1.2.1,600,10,5,0\n")
    checked = check_source(DicomFolder(str(folder)), RULES)
    (finding,) = [f for f in checked.findings if f.level is Level.REFUSED]
    assert finding.code == "outside-scan"
    assert "2 of 6 labels" in finding.what


def test_a_scan_smaller_than_a_crop_is_refused(folder):
    checked = check_source(DicomFolder(str(folder)), replace(RULES, preprocess=replace(RULES.preprocess, size=16)))
    assert codes(checked, Level.REFUSED) == ["crop-too-large"] * 2


def test_labels_of_scans_that_are_not_there_are_refused_and_scans_still_looked_at(folder):
    with (folder / "labels.csv").open("a") as labels:
        labels.write("9.9.9,1,1,1,1\n")
    checked = check_source(DicomFolder(str(folder)), RULES)
    assert "unknown-scan" in codes(checked, Level.REFUSED)
    assert (checked.summary.scans, checked.summary.labelled_scans) == (2, 0)


def test_a_lost_rescale_is_told_of_each_scan_and_refused_for_all(tmp_path, write_series, body):
    for n in (1, 2):
        write_series(tmp_path / f"s{n}", body + 1024, uid=f"1.2.{n}", patient=f"P{n}")
    checked = check_source(DicomFolder(str(tmp_path), labels=None), RULES)
    assert codes(checked, Level.WARNING) == ["implausible-tissue-hu"] * 2
    (finding,) = [f for f in checked.findings if f.level is Level.REFUSED]
    assert finding.what.startswith("all scans together: soft tissue is 1064 HU")


def test_a_table_without_rows_is_refused(folder):
    (folder / "labels.csv").write_text("series_uid,x_mm,y_mm,z_mm,label\n")
    checked = check_source(DicomFolder(str(folder)), RULES)
    assert codes(checked, Level.REFUSED) == ["no-labels"]


def test_headers_only_reads_no_pixel(folder, monkeypatch):
    monkeypatch.setattr(DicomFolder, "read", lambda *_: pytest.fail("a scan was read"))
    checked = check_source(DicomFolder(str(folder)), RULES, headers_only=True)
    assert (set(codes(checked)), checked.statistics) == ({"usable"}, None)
    assert checked.summary.spacing_mm == {"slices": (1.0, 1.0), "pixels": (1.0, 1.0)}


@pytest.mark.parametrize("source", [DicomFolder("/nowhere"), Cubes("/nowhere.npz")])
def test_a_place_where_nothing_is_has_one_finding(source):
    checked = check_source(source, RULES)
    assert codes(checked, Level.REFUSED) == ["missing-folder"]
    assert (checked.summary.scans, checked.statistics) == (0, None)


def test_cubes_are_checked_as_far_as_they_can_be(tmp_path):
    rng = np.random.default_rng(0)
    x = rng.integers(0, 255, (12, 8, 8, 8)).astype(np.uint8)
    np.savez(tmp_path / "x.npz", x=x, y=np.arange(12) % 2)
    grey = replace(RULES, preprocess=Preprocess(spacing_mm=None, size=8, window_hu=(0, 255)))
    checked = check_source(Cubes(str(tmp_path / "x.npz")), grey)
    assert not checked.is_refused
    assert "tissue_hu" not in checked.statistics.numbers
    assert checked.summary.labels == {"positive": 6, "negative": 6}
    assert next(f.what for f in checked.findings if f.code == "patients-unknown").startswith("12 of 12 scans")
    np.savez(tmp_path / "x.npz", x=x, y=np.arange(12) % 2, patient=np.arange(12).astype(str))
    assert "patients-unknown" not in codes(check_source(Cubes(str(tmp_path / "x.npz")), grey))


def test_progress_is_told_of_headers_and_pixels(folder):
    seen = []
    check_source(DicomFolder(str(folder)), RULES, progress=lambda *step: seen.append(step))
    assert seen[-1] == ("pixels", 2, 2)
    assert ("headers", 2 * SLICES + 1, 2 * SLICES + 1) in seen  # and the table


@pytest.mark.parametrize(
    ("message", "what", "remedy"),
    [
        ("a is 3; leave it out", "a is 3", "leave it out"),
        ("a: 4 of 5 (x; y), keep one", "a: 4 of 5 (x; y)", "keep one"),
        ("a; two share a uid, separate them", "a; two share a uid", "separate them"),
        ("nothing is said", "nothing is said", "correct it, or leave it out"),
    ],
)
def test_an_error_is_cut_where_it_begins_to_tell_what_to_do(message, what, remedy):
    assert of_error(MissingSlice(message), Level.REFUSED) == Finding(Level.REFUSED, "missing-slice", what, remedy)


def test_a_message_of_several_lines_becomes_one():
    assert "\n" not in of_error(OutsideScan("a\nb; leave\nit out"), Level.NOTE).line
    assert Finding(Level.NOTE, "x", "a\nb", "c").line == "NOTE x a b — c"


def test_the_worst_comes_first(folder, write_series, body):
    write_series(folder / "gap", body, uid="1.2.3", leave_out=[4])
    with (folder / "labels.csv").open("a") as labels:
        labels.write("1.2.1,500,10,5,1\n")
    levels = [finding.level for finding in check_source(DicomFolder(str(folder)), RULES).findings]
    assert levels == sorted(levels, key=list(Level).index)
    assert len(set(levels)) == 3


def test_an_error_of_no_kind_of_ours_is_not_hidden(folder, monkeypatch):
    monkeypatch.setattr(DicomFolder, "read", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        check_source(DicomFolder(str(folder)), RULES)
    assert not issubclass(ZeroDivisionError, DataError)
