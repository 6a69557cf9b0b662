import numpy as np
import pytest

from data.errors import BadArchive, EmptySource, MissingFolder, UnknownScan
from data.samples import ScanRef
from data.sources import Cubes

RNG = np.random.default_rng(11)
X = RNG.integers(0, 256, (6, 4, 5, 6)).astype(np.uint8)
Y = np.array([0, 1, 0, 1, 1, 0], np.uint8)


@pytest.fixture
def ours(tmp_path):
    path = tmp_path / "set.npz"
    np.savez(
        path,
        x=X,
        y=Y,
        patient=np.array(list("AABBCC")),
        vendor=np.array(["GE", "ge", "SIEMENS", "SIEMENS", "GE", "GE"]),
    )
    return str(path)


@pytest.fixture
def medmnist(tmp_path):
    path = tmp_path / "nodulemnist3d.npz"
    parts = {"train": slice(0, 3), "val": slice(3, 4), "test": slice(4, 6)}
    arrays = {f"{name}_images": X[rows] for name, rows in parts.items()}
    labels = {f"{name}_labels": Y[rows, None] for name, rows in parts.items()}
    np.savez(path, **arrays, **labels)
    return str(path)


def test_each_cube_is_a_scan_with_its_values_kept_and_one_place_at_its_centre(ours):
    source = Cubes(ours)
    refs = source.scans()
    assert [ref.patient for ref in refs] == list("AABBCC")
    assert [ref.scanner for ref in refs] == ["GE", "GE", "SIEMENS", "SIEMENS", "GE", "GE"]
    for ref, cube, label in zip(refs, X, Y, strict=True):
        volume = source.read(ref)
        (candidate,) = source.candidates(ref)
        np.testing.assert_array_equal(volume.hu_ZYX, cube)
        assert volume.spacing_zyx_mm == (1.0, 1.0, 1.0)
        assert volume.world_to_voxel(candidate.centre_xyz_mm) == (2.0, 2.0, 3.0)
        assert candidate.label == label


def test_one_vendor_can_be_kept(ours):
    siemens = Cubes(ours, vendor="siemens")
    assert [ref.patient for ref in siemens.scans()] == ["B", "B"]
    np.testing.assert_array_equal(siemens.read(siemens.scans()[1]).hu_ZYX, X[3])
    with pytest.raises(UnknownScan):
        siemens.read(Cubes(ours).scans()[0])
    with pytest.raises(EmptySource, match=r"TOSHIBA.*found GE, SIEMENS"):
        Cubes(ours, vendor="TOSHIBA").scans()


def test_a_medmnist_file_is_joined_and_each_cube_is_a_patient(medmnist):
    source = Cubes(medmnist)
    refs = source.scans()
    assert [source.candidates(ref)[0].label for ref in refs] == Y.tolist()
    assert len({ref.patient for ref in refs}) == 6
    np.testing.assert_array_equal(source.read(refs[5]).hu_ZYX, X[5])
    assert len(Cubes(medmnist, splits=["val"]).scans()) == 1


def test_whose_cubes_they_are_is_known_from_the_file_or_on_the_hospital_s_word_alone(ours, medmnist):
    known = [
        {ref.is_patient_known for ref in source.scans()}
        for source in (Cubes(ours), Cubes(medmnist), Cubes(medmnist, one_scan_a_patient=True))
    ]
    assert known == [{True}, {False}, {True}]


def test_the_voxels_are_in_memory_so_that_no_cache_need_copy_them(ours):
    assert Cubes(ours).resident


def test_a_file_that_is_written_again_is_read_again(ours):
    assert Cubes(ours).scans()[0].patient == "A"
    np.savez(ours, x=X, y=Y, patient=np.array(list("ZABBCC")))
    assert Cubes(ours).scans()[0].patient == "Z"


@pytest.mark.parametrize(
    "arrays, says",
    [
        ({"x": X}, "has x but no y"),
        ({"cubes": X}, "no train_images.*keys: cubes"),
        ({"train_images": X, "train_labels": Y}, "no val_images"),
        ({"x": X[0], "y": Y}, r"shape \(4, 5, 6\)"),
        ({"x": X, "y": Y[1:]}, "labels"),
        ({"x": X / 255, "y": Y}, "whole numbers"),
        ({"x": X, "y": Y, "patient": np.array(["A"])}, "one value a cube"),
        ({"x": X, "y": Y, "patient": np.array(["A", "B", " ", "C", "C", "D"])}, "cube 2 has no patient"),
        ({"x": np.array([{}], object), "y": Y}, "not a readable"),
    ],
)
def test_an_archive_that_cannot_be_used_is_named(tmp_path, arrays, says):
    np.savez(tmp_path / "bad.npz", **arrays)
    with pytest.raises(BadArchive, match=rf"bad\.npz.*{says}"):
        Cubes(str(tmp_path / "bad.npz")).scans()


def test_a_vendor_cannot_be_chosen_where_none_is_told(medmnist):
    with pytest.raises(BadArchive, match="no key 'vendor'"):
        Cubes(medmnist, vendor="GE").scans()


def test_a_file_that_is_no_archive_or_not_there_is_named(tmp_path):
    (tmp_path / "text.npz").write_text("not an archive")
    with pytest.raises(BadArchive, match="copy it again"):
        Cubes(str(tmp_path / "text.npz")).scans()
    with pytest.raises(MissingFolder, match=r"no\.npz"):
        Cubes(str(tmp_path / "no.npz")).scans()
    with pytest.raises(UnknownScan):
        np.savez(tmp_path / "a.npz", x=X, y=Y)
        Cubes(str(tmp_path / "a.npz")).candidates(ScanRef("b#000000", "b"))


def test_the_real_nodules_stand_as_described(real_data):
    path = str(real_data / "lidc-nodules/lidc_nodules_32.npz")
    counts = {vendor: len(Cubes(path, vendor=vendor).scans()) for vendor in ("GE", "SIEMENS", "PHILIPS")}
    assert counts == {"GE": 578, "SIEMENS": 218, "PHILIPS": 86}
    source = Cubes(path)
    assert sum(source.candidates(ref)[0].label for ref in source.scans()) == 267
