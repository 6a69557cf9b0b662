"""The contact sheet: what is drawn where, checked on a scan in which every side is known."""

import numpy as np
import pytest

from data.check.canvas import NEGATIVE, POSITIVE
from data.check.sheet import PLANES, _mark, _plane, contact_sheet
from data.preprocess import Preprocess
from data.samples import Candidate
from data.sources import Cubes, DicomFolder
from data.volume import CtVolume

P = Preprocess(spacing_mm=1.0, size=8, window_hu=(-1000, 400))
AXIAL, CORONAL, SAGITTAL = PLANES


@pytest.fixture
def corner() -> CtVolume:
    """40 slices of 2 mm, 60 × 80 mm; bright where the patient's left, back and head meet."""
    hu_ZYX = np.full((40, 60, 80), -1000, np.int16)
    hu_ZYX[30:, 45:, 60:] = 400
    return CtVolume(hu_ZYX, (2.0, 1.0, 1.0), (-40.0, -30.0, 0.0))


def brightest_quarter(picture) -> tuple[str, str]:
    grey = np.asarray(picture.convert("L"), float)
    rows, columns = (n // 2 for n in grey.shape)
    means = {(v, h): grey[rows * i : rows * (i + 1), columns * j : columns * (j + 1)].mean()
             for i, v in enumerate(("upper", "lower")) for j, h in enumerate(("left", "right"))}  # fmt: skip
    return max(means, key=means.get)


@pytest.mark.parametrize(
    ("plane", "index", "quarter"),
    [(AXIAL, 35, ("lower", "right")), (CORONAL, 50, ("upper", "right")), (SAGITTAL, 70, ("upper", "right"))],
    ids=["axial", "coronal", "sagittal"],
)
def test_the_patients_left_is_on_the_right_the_back_below_the_head_above(corner, plane, index, quarter):
    assert brightest_quarter(_plane(corner, plane, index, (), P)) == quarter


def test_planes_have_the_patients_proportions(corner):
    for plane, (across, down) in ((AXIAL, (80, 60)), (CORONAL, (80, 80)), (SAGITTAL, (60, 80))):
        width, height = _plane(corner, plane, 10, (), P).size
        assert width / height == pytest.approx(across / down, rel=0.02)


def test_a_ring_stands_where_its_label_is_and_only_near_the_plane(corner):
    place = Candidate(corner.voxel_to_world((30.0, 50.0, 70.0)), 1, 8.0)
    scale = 2.0
    axial = _mark(corner, AXIAL, 30, place, scale)
    assert (axial.x, axial.y, axial.colour) == (pytest.approx(141.0), pytest.approx(101.0), POSITIVE)
    coronal = _mark(corner, CORONAL, 50, place, scale)
    assert coronal.y == pytest.approx((40 - 30.5) * 2.0 * scale)  # heads are drawn above
    assert _mark(corner, AXIAL, 35, place, scale) is None
    assert _mark(corner, AXIAL, 30, Candidate(place.centre_xyz_mm, 0), scale).colour == NEGATIVE


def has(picture, colour) -> bool:
    return bool((np.asarray(picture) == colour).all(axis=-1).any())


def test_the_sheet_shows_scans_and_crops_of_both_classes(tmp_path, write_series, corner):
    for n in (1, 2):
        write_series(tmp_path / f"s{n}", corner.hu_ZYX, uid=f"1.2.{n}", patient=f"Anna{n}", spacing_zyx_mm=(2, 1, 1))
    rows = [f"1.2.{n},{x},30,40,{label}" for n in (1, 2) for x, label in ((20, 0), (40, 1), (900, 1))]
    (tmp_path / "labels.csv").write_text("\n".join(["series_uid,x_mm,y_mm,z_mm,label", *rows]) + "\n")
    sheet = contact_sheet(DicomFolder(str(tmp_path)), P)
    assert sheet.mode == "RGB"
    assert sheet.width > 600
    assert has(sheet, POSITIVE)
    assert has(sheet, NEGATIVE)
    fewer = contact_sheet(DicomFolder(str(tmp_path)), P, scans=1)
    assert fewer.height < sheet.height


def test_a_folder_without_labels_has_a_sheet_too(tmp_path, write_series, corner):
    write_series(tmp_path / "s", corner.hu_ZYX, spacing_zyx_mm=(2, 1, 1))
    sheet = contact_sheet(DicomFolder(str(tmp_path), labels=None), P)
    assert not has(sheet, POSITIVE)
    assert sheet.height > 150


def test_cubes_are_shown_as_crops_alone(tmp_path):
    x = np.random.default_rng(0).integers(0, 255, (20, 8, 8, 8)).astype(np.uint8)
    np.savez(tmp_path / "x.npz", x=x, y=np.arange(20) % 2)
    grey = Preprocess(spacing_mm=None, size=8, window_hu=(0, 255))
    sheet = contact_sheet(Cubes(str(tmp_path / "x.npz")), grey, crops=4)
    assert has(sheet, POSITIVE)
    assert sheet.height < 300
