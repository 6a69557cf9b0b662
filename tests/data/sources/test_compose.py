import numpy as np
import pytest

from data.errors import PartitionError, UnknownScan
from data.samples import ScanRef
from data.sources import Cubes, Subset, Union


@pytest.fixture
def source(tmp_path):
    x = np.arange(4 * 27, dtype=np.uint8).reshape(4, 3, 3, 3)
    np.savez(tmp_path / "a.npz", x=x, y=np.array([0, 1, 1, 0]), patient=np.array(["A", "B", "A", "C"]))
    return Cubes(str(tmp_path / "a.npz"))


def test_a_subset_holds_all_scans_of_its_patients_and_no_others(source):
    share = Subset.of_patients(source, ["C", "A"])
    assert [ref.patient for ref in share.scans()] == ["A", "A", "C"]
    for ref in share.scans():
        np.testing.assert_array_equal(share.read(ref).hu_ZYX, source.read(ref).hu_ZYX)
        assert share.candidates(ref) == source.candidates(ref)
        assert share.stamp(ref) == source.stamp(ref)
    assert share.resident


def test_a_patient_who_is_not_there_is_named(source):
    with pytest.raises(PartitionError, match="'Z'"):
        Subset.of_patients(source, ["A", "Z"])


def test_a_union_of_the_parts_is_the_whole(source):
    whole = Union([Subset.of_patients(source, ["B"]), Subset.of_patients(source, ["A", "C"])])
    assert whole.scans() == source.scans()
    for ref in whole.scans():
        np.testing.assert_array_equal(whole.read(ref).hu_ZYX, source.read(ref).hu_ZYX)
        assert whole.candidates(ref) == source.candidates(ref)
        assert whole.stamp(ref) == source.stamp(ref)
    assert whole.resident


def test_one_scan_in_two_places_is_refused(source):
    with pytest.raises(PartitionError, match="in two"):
        Union([source, Subset.of_patients(source, ["A"])]).scans()


def test_a_scan_that_no_part_holds_is_unknown(source):
    with pytest.raises(UnknownScan, match="none of the 1"):
        Union([source]).read(ScanRef("x", "X"))
