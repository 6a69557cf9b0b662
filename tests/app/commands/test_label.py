"""`fedvox data label`: LIDC's XML and lung negatives as a table that a hospital trains on."""

import shutil

import numpy as np
import pydicom
import pytest

from app.cli import main
from data.luna16.tables import read_candidates
from data.sources import DicomFolder
from data.synthetic import write_cohort
from tests.app.rounds import spoiled
from tests.data.lidc.xml import message, nodule, ring


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Series of two patients, without labels."""
    site = spoiled.write_hospitals(tmp_path_factory.mktemp("label"), {"north": "SIEMENS"}, patients=2) / "north"
    (site / "data" / "labels.csv").unlink()
    return site / "data"


@pytest.fixture
def xml(folder, tmp_path):
    """Readings of the first series: one nodule of three readers, rated 5, and one of one reader. And an X-ray's."""
    source = DicomFolder(str(folder), labels=None)
    ref = source.scans()[0]
    planes = source.stack(ref).planes
    slices = [plane.header.sop_uid for plane in planes]
    agreed = nodule("".join(ring(uid, 40, 60, 3) for uid in slices[10:13]), malignancy=5)
    lonely = nodule(ring(slices[20], 80, 60, 3), malignancy=1)
    (tmp_path / "xml" / "deep").mkdir(parents=True)
    (tmp_path / "xml" / "deep" / "1.xml").write_text(message(ref.uid, [[agreed, lonely], [agreed], [], [agreed]]))
    (tmp_path / "xml" / "2.xml").write_text("<IdriReadMessage/>")
    (tmp_path / "xml" / "3.xml").write_text(message("9.9.9", [[agreed]]))
    return tmp_path / "xml", ref, planes


def run(capsys, *args):
    return main(["data", "label", *map(str, args)]), capsys.readouterr()


def test_lidc_s_readings_and_lung_negatives_become_labels(capsys, folder, xml, tmp_path):
    where, ref, planes = xml
    code, said = run(capsys, folder, tmp_path / "labels.csv", "--lidc", where, "--negatives", 3)
    assert code == 0
    assert "1 positive, 6 negative, in 2 scans" in said.out
    labelled = DicomFolder(str(folder), labels=str(tmp_path / "labels.csv"))
    (positive,) = [place for place in labelled.candidates(ref) if place.label]
    first = pydicom.dcmread(planes[11].header.path)
    row_mm, column_mm = map(float, first.PixelSpacing)
    heights = sorted(plane.position_xyz_mm[2] for plane in planes[10:13])
    x, y, _ = map(float, first.ImagePositionPatient)
    assert positive.centre_xyz_mm == pytest.approx((x + 40 * column_mm, y + 60 * row_mm, np.mean(heights)), abs=2e-3)
    assert positive.diameter_mm > 3


def test_xml_behind_a_link_is_found_as_dicom_is(capsys, folder, xml, tmp_path):
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / "set").symlink_to(xml[0], target_is_directory=True)
    code, said = run(capsys, folder, tmp_path / "labels.csv", "--lidc", tmp_path / "links")
    assert (code, "1 positive" in said.out) == (0, True)


@pytest.mark.parametrize(("more", "counted"), [((), "1 positive, 0 negative"), (("--readers", 1), "1 positive, 1 neg")])
def test_malignancy_may_be_what_is_told_apart(capsys, folder, xml, tmp_path, more, counted):
    code, said = run(capsys, folder, tmp_path / "labels.csv", "--lidc", xml[0], "--malignancy", *more)
    assert (code, counted in said.out) == (0, True)


def test_a_luna16_folder_gets_luna16_s_table(capsys, tmp_path):
    orders = {"L": {"patients": 1, "scanner": "GE", "format": "luna16", **spoiled.FRAME}}
    write_cohort(tmp_path, hospitals=orders, seed=0, workers=1)
    (tmp_path / "L" / "data" / "candidates.csv").unlink()
    out = tmp_path / "L" / "data" / "candidates.csv"
    code, _ = run(capsys, tmp_path / "L" / "site.yaml", out, "--negatives", 4)
    assert code == 0
    labels = [row.label for row in read_candidates(out)]
    assert labels.count(0) == 4
    assert labels.count(1) >= 1


def test_wrong_use_is_one_line(capsys, folder, xml, tmp_path):
    (tmp_path / "there.csv").write_text("mine")
    shutil.rmtree(xml[0] / "deep")
    for args, code, said in (
        ((folder, tmp_path / "there.csv"), 2, "is there already"),
        ((folder, tmp_path / "new.csv", "--lidc", xml[0]), 1, "1 readings of CT scans, none of any of the 2 scans"),
        ((folder, tmp_path / "new.csv", "--negatives", "-1"), 2, "-1 negatives a scan"),
    ):
        got, out = run(capsys, *args)
        assert (got, said in out.err, len(out.err.splitlines())) == (code, True, 1), out.err
    assert (tmp_path / "there.csv").read_text() == "mine"
    assert not (tmp_path / "new.csv").exists()
