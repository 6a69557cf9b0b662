import numpy as np
import pytest

from data.errors import BadTable, EmptySource, MissingFolder, UnknownScan
from data.luna16 import mhd
from data.luna16.tables import Annotation, CandidateRow, write_annotations, write_candidates
from data.partition import ByScanner, hospitals_of
from data.samples import Candidate, ScanRef
from data.sources import Luna16
from data.volume import CtVolume


def scan(value):
    return CtVolume(np.full((4, 5, 6), value, np.int16), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0))


@pytest.fixture
def folder(tmp_path):
    for subset, uid, compress in [("subset0", "1.9", False), ("subset3", "1.2", True), ("subset3", "1.5", False)]:
        (tmp_path / subset).mkdir(exist_ok=True)
        mhd.write(tmp_path / subset / f"{uid}.mhd", scan(int(uid[-1])), compress=compress)
    write_annotations(
        tmp_path / "annotations.csv",
        [
            Annotation("1.9", (3.0, 2.0, 1.0), 4.0),
            Annotation("1.9", (1.0, 2.0, 1.0), 3.0),
            Annotation("absent", (0, 0, 0), 9.0),
        ],
    )
    return tmp_path


def test_scans_of_all_subsets_are_sorted_by_uid(folder):
    source = Luna16(str(folder))
    assert [ref.uid for ref in source.scans()] == ["1.2", "1.5", "1.9"]
    assert [source.read(ref).hu_ZYX[0, 0, 0] for ref in source.scans()] == [2, 5, 9]


def test_chosen_subsets_are_read_alone(folder):
    assert [ref.uid for ref in Luna16(str(folder), subsets=[0]).scans()] == ["1.9"]
    assert [ref.uid for ref in Luna16(str(folder), subsets=[3]).scans()] == ["1.2", "1.5"]
    with pytest.raises(EmptySource, match="subset7"):
        Luna16(str(folder), subsets=[7]).scans()


def test_scans_know_their_official_fold(folder):
    assert [(ref.uid, ref.fold) for ref in Luna16(str(folder)).scans()] == [("1.2", 3), ("1.5", 3), ("1.9", 0)]


def test_a_table_of_manufacturers_makes_hospitals_by_scanner(folder):
    (folder / "patients.csv").write_text("seriesuid,manufacturer\n1.2,GE MEDICAL SYSTEMS\n1.5,Philips\n1.9,Philips\n")
    source = Luna16(str(folder))
    assert [(ref.patient, ref.scanner) for ref in source.scans()][:2] == [
        ("1.2", "GE MEDICAL SYSTEMS"),
        ("1.5", "PHILIPS"),
    ]
    hospitals = hospitals_of(source, ByScanner({"GE": "a", "PHILIPS": "b"}))
    assert {name: [ref.uid for ref in share.scans()] for name, share in hospitals.items()} == {
        "a": ["1.2"], "b": ["1.5", "1.9"]
    }  # fmt: skip


def test_scans_that_lie_flat_are_found(tmp_path):
    mhd.write(tmp_path / "1.7.mhd", scan(7))
    assert Luna16(str(tmp_path)).scans() == [ScanRef("1.7", "1.7", "", is_patient_known=False)]


def test_annotations_alone_are_nodules(folder):
    source = Luna16(str(folder))
    by_uid = {ref.uid: source.candidates(ref) for ref in source.scans()}
    assert by_uid == {
        "1.2": [],
        "1.5": [],
        "1.9": [Candidate((3.0, 2.0, 1.0), 1, 4.0), Candidate((1.0, 2.0, 1.0), 1, 3.0)],
    }


def test_candidates_keep_their_class_and_take_the_diameter_of_the_nodule_they_hit(folder):
    # (3.5, 2, 1) lies 0.5 mm from the nodule of 4 mm and 2.5 mm from the one of 3 mm; (9, 9, 9) hits nothing.
    rows = [
        CandidateRow("1.9", (3.5, 2.0, 1.0), 1),
        CandidateRow("1.9", (9.0, 9.0, 9.0), 1),
        CandidateRow("1.2", (1.0, 1.0, 1.0), 0),
    ]
    write_candidates(folder / "candidates.csv", rows)
    source = Luna16(str(folder))
    by_uid = {ref.uid: source.candidates(ref) for ref in source.scans()}
    assert by_uid["1.9"] == [Candidate((3.5, 2.0, 1.0), 1, 4.0), Candidate((9.0, 9.0, 9.0), 1, None)]
    assert by_uid["1.2"] == [Candidate((1.0, 1.0, 1.0), 0, None)]


def test_the_second_version_of_the_candidates_is_preferred(folder):
    write_candidates(folder / "candidates.csv", [CandidateRow("1.2", (1.0, 1.0, 1.0), 0)])
    write_candidates(folder / "candidates_V2.csv", [CandidateRow("1.2", (2.0, 2.0, 2.0), 0)])
    source = Luna16(str(folder))
    assert source.candidates(source.scans()[0]) == [Candidate((2.0, 2.0, 2.0), 0, None)]


def test_negatives_can_be_thinned_scan_by_scan(folder):
    rows = [CandidateRow(uid, (float(i), 1.0, 1.0), int(i % 10 == 0)) for uid in ("1.2", "1.5") for i in range(40)]
    write_candidates(folder / "candidates.csv", rows)
    everything, thinned, again, other = (
        Luna16(str(folder), negatives=n, seed=seed) for n, seed in ((None, 0), (6, 0), (6, 0), (6, 1))
    )
    ref = everything.scans()[0]
    kept = thinned.candidates(ref)
    assert [c.label for c in kept].count(0) == 6
    assert [c.label for c in kept].count(1) == 4
    assert kept == [c for c in everything.candidates(ref) if c in kept]  # the order of the file
    assert kept == again.candidates(ref)
    assert kept != other.candidates(ref)
    places = {
        uid: {c.centre_xyz_mm for c in thinned.candidates(r)} for uid, r in zip("25", thinned.scans(), strict=False)
    }
    assert places["2"] != places["5"]


def test_a_table_of_patients_names_them_and_their_scanners(folder):
    (folder / "patients.csv").write_text("seriesuid,patient,manufacturer\n1.2,P1,Philips\n1.5,P1,GE\n1.9,P2,\n")
    assert Luna16(str(folder)).scans() == [
        ScanRef("1.2", "P1", "PHILIPS", fold=3),
        ScanRef("1.5", "P1", "GE", fold=3),
        ScanRef("1.9", "P2", "", fold=0),
    ]
    (folder / "patients.csv").write_text("seriesuid,patient\n1.2,P1\n1.5,P1\n")
    with pytest.raises(BadTable, match=r"no row for scan 1\.9"):
        Luna16(str(folder)).scans()
    (folder / "patients.csv").write_text("seriesuid,patient\n1.2,P1\n1.5,\n1.9,P2\n")
    with pytest.raises(BadTable, match=r"scan 1\.5 has no patient"):
        Luna16(str(folder)).scans()


@pytest.mark.parametrize("table", [None, "seriesuid,manufacturer\n1.2,GE\n1.5,GE\n1.9,GE\n"])
def test_whose_scans_they_are_is_known_from_a_table_or_on_the_hospital_s_word_alone(folder, table):
    if table:
        (folder / "patients.csv").write_text(table)
    assert {ref.is_patient_known for ref in Luna16(str(folder)).scans()} == {False}
    assert {ref.is_patient_known for ref in Luna16(str(folder), one_scan_a_patient=True).scans()} == {True}
    (folder / "patients.csv").write_text("seriesuid,patient\n1.2,P1\n1.5,P1\n1.9,P2\n")
    assert {ref.is_patient_known for ref in Luna16(str(folder)).scans()} == {True}


def test_untagged_padding_is_air(folder):
    padded = scan(40).hu_ZYX
    padded[:, 0] = -3024
    mhd.write(folder / "subset0" / "1.9.mhd", scan(40).with_array(padded, did="padded"))
    source = Luna16(str(folder), subsets=[0])
    volume = source.read(source.scans()[0])
    assert (volume.hu_ZYX[:, 0] == -1000).all()
    assert (volume.hu_ZYX[:, 1:] == 40).all()
    assert volume.provenance == ("padding replaced by air",)


def test_a_changed_voxel_file_changes_the_stamp(folder):
    source = Luna16(str(folder))
    before = [source.stamp(ref) for ref in source.scans()]
    mhd.write(folder / "subset3" / "1.2.mhd", scan(3), compress=True)
    after = [source.stamp(ref) for ref in source.scans()]
    assert after[0] != before[0]
    assert after[1:] == before[1:]


def test_what_is_not_there_is_named(tmp_path, folder):
    with pytest.raises(MissingFolder, match="nowhere"):
        Luna16(str(tmp_path / "nowhere")).scans()
    with pytest.raises(UnknownScan, match=r"7\.7"):
        Luna16(str(folder)).read(ScanRef("7.7", "7.7"))
    (folder / "annotations.csv").unlink()
    with pytest.raises(BadTable, match=r"annotations\.csv"):
        Luna16(str(folder)).candidates(ScanRef("1.9", "1.9"))
