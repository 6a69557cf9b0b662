"""A cohort on disk: read back by other people's readers and our own, reproducible, never half there."""

import csv
import errno
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
import SimpleITK
import yaml

from data.errors import BadSetting
from data.sources import DicomFolder, Luna16
from data.synthetic import write_cohort
from data.synthetic.folder import FolderTaken, NoRoom
from data.synthetic.order import Order

SMALL = {"matrix": 40, "field_of_view_mm": 100.0, "length_mm": 36.0, "candidates": 4}
TWO = {
    "north": {"patients": 2, "scanner": "GE", **SMALL},
    "south": {"patients": 3, "scanner": "PHILIPS", "format": "luna16", **SMALL},
}


def _files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def cohort(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("cohort")
    write_cohort(folder, hospitals=TWO, seed=7, workers=1)
    return folder


def test_a_hospital_stands_as_in_reality(cohort):
    north, south = (yaml.safe_load((cohort / name / "site.yaml").read_text()) for name in TWO)
    assert north["name"] == "north"
    assert north["source"] == {"_target_": "data.sources.DicomFolder", "path": "data"}
    assert south["source"] == {"_target_": "data.sources.Luna16", "path": "data"}
    assert north["policy"] == {
        "epsilon_cap": 8.0,
        "delta": 1e-5,
        "min_patients": 5,
        "accepted": {"unit": ["none", "patient", "sample", "site"]},
        "approved_code": [],
    }
    assert (cohort / "north" / north["state_dir"]).is_dir()
    assert sorted(p.name for p in cohort.iterdir()) == ["north", "south"]


def test_dicom_is_read_alike_by_itk_and_by_our_source(cohort):
    data = cohort / "north" / "data"
    source = DicomFolder(str(data))
    folders = {ref.patient: ref for ref in source.scans()}
    assert sorted(folders) == ["north-00001", "north-00002"]
    for patient, ref in folders.items():
        assert ref.scanner == "GE MEDICAL SYSTEMS"
        reader = SimpleITK.ImageSeriesReader()
        reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(data / patient)))
        image = reader.Execute()
        theirs, ours = SimpleITK.GetArrayFromImage(image), source.read(ref)
        tissue = theirs > -3024  # padding, which our reader turns into air
        np.testing.assert_array_equal(theirs[tissue], ours.hu_ZYX[tissue])
        np.testing.assert_allclose(image.GetOrigin(), ours.origin_xyz_mm, atol=1e-3)
        np.testing.assert_allclose(image.GetSpacing(), ours.spacing_zyx_mm[::-1], atol=1e-6)


def test_luna16_is_read_alike_by_itk_and_by_our_source(cohort):
    data = cohort / "south" / "data"
    source = Luna16(str(data))
    refs = source.scans()
    assert [ref.patient for ref in sorted(refs, key=lambda ref: ref.patient)] == [f"south-0000{i}" for i in (1, 2, 3)]
    for ref in refs:
        (path,) = data.glob(f"subset?/{ref.uid}.mhd")
        image = SimpleITK.ReadImage(str(path))
        theirs, ours = SimpleITK.GetArrayFromImage(image), source.read(ref)
        tissue = theirs > -2000
        np.testing.assert_array_equal(theirs[tissue], ours.hu_ZYX[tissue])
        np.testing.assert_allclose(image.GetOrigin(), ours.origin_xyz_mm, atol=1e-6)


def test_patients_are_dealt_to_lunas_subsets_in_turn(cohort):
    folders = sorted(p.parent.name for p in (cohort / "south" / "data").glob("subset*/*.mhd"))
    assert folders == ["subset0", "subset1", "subset2"]


def test_luna16_tables_have_lunas_columns_and_agree(cohort):
    data = cohort / "south" / "data"
    annotations, candidates = _rows(data / "annotations.csv"), _rows(data / "candidates.csv")
    assert list(annotations[0]) == ["seriesuid", "coordX", "coordY", "coordZ", "diameter_mm"]
    assert list(candidates[0]) == ["seriesuid", "coordX", "coordY", "coordZ", "class"]
    places = [tuple(row[c] for c in ("seriesuid", "coordX", "coordY", "coordZ")) for row in annotations]
    hits = [row for row in candidates if row["class"] == "1"]
    assert places == [tuple(row[c] for c in ("seriesuid", "coordX", "coordY", "coordZ")) for row in hits]
    assert {row["class"] for row in candidates} == {"0", "1"}


def test_labels_name_series_that_are_there_and_give_nodules_a_diameter(cohort):
    labels = _rows(cohort / "north" / "data" / "labels.csv")
    assert list(labels[0]) == ["series_uid", "x_mm", "y_mm", "z_mm", "label", "diameter_mm"]
    uids = {ref.uid for ref in DicomFolder(str(cohort / "north" / "data")).scans()}
    assert {row["series_uid"] for row in labels} == uids
    assert all(bool(row["diameter_mm"]) == (row["label"] == "1") for row in labels)


@pytest.mark.slow
def test_bytes_do_not_depend_on_processes(tmp_path):
    twelve = {"north": {**TWO["north"], "patients": 12}}
    for workers in (1, 2):
        write_cohort(tmp_path / str(workers), hospitals=twelve, seed=1, workers=workers)
    assert _files(tmp_path / "1") == _files(tmp_path / "2")


def test_a_patient_depends_neither_on_other_hospitals_nor_on_how_many_patients_there_are(cohort, tmp_path):
    write_cohort(tmp_path, hospitals={"north": {**TWO["north"], "patients": 1}}, seed=7, workers=1)
    name = "north/data/north-00001"
    assert _files(tmp_path / name) == _files(cohort / name)


def test_another_seed_is_another_patient_with_other_uids(cohort, tmp_path):
    write_cohort(tmp_path, hospitals={"north": {**TWO["north"], "patients": 1}}, seed=8, workers=1)
    uids = {ref.uid for folder in (cohort, tmp_path) for ref in DicomFolder(str(folder / "north" / "data")).scans()}
    assert len(uids) == 3


def test_progress_counts_every_patient(tmp_path):
    told = []
    write_cohort(tmp_path, hospitals=TWO, seed=0, workers=1, progress=lambda done, total: told.append((done, total)))
    assert told == [(n, 5) for n in range(1, 6)]


def test_a_hospital_that_is_there_is_kept_with_its_state(cohort):
    (cohort / "north" / "state" / "ledger.jsonl").write_text("spent\n")
    before = _files(cohort)
    told = []
    write_cohort(cohort, hospitals=TWO, seed=7, progress=lambda done, total: told.append(done))
    assert _files(cohort) == before
    assert told == []
    (cohort / "north" / "state" / "ledger.jsonl").unlink()


def test_only_the_hospitals_that_are_missing_are_written(tmp_path):
    write_cohort(tmp_path, hospitals={"north": TWO["north"]}, seed=7, workers=1)
    told = []
    write_cohort(tmp_path, hospitals=TWO, seed=7, workers=1, progress=lambda done, total: told.append(total))
    assert told == [3, 3, 3]


@pytest.mark.parametrize(("seed", "patients"), [(8, 2), (7, 3)])
def test_a_hospital_of_other_settings_is_refused_untouched(cohort, seed, patients):
    before = _files(cohort)
    with pytest.raises(FolderTaken, match="other settings"):
        write_cohort(cohort, hospitals={"north": {**TWO["north"], "patients": patients}}, seed=seed, workers=1)
    assert _files(cohort) == before


def test_a_folder_with_something_else_is_refused_untouched(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(FolderTaken, match=r"thesis\.txt"):
        write_cohort(tmp_path, hospitals=TWO, seed=7, workers=1)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "cohort").write_text("")
    with pytest.raises(FolderTaken, match="is a file"):
        write_cohort(tmp_path / "cohort", hospitals=TWO, seed=7, workers=1)


@pytest.mark.parametrize(
    ("hospitals", "message"),
    [
        ({"north": {"patients": 0}}, "at least one"),
        ({"north": {"patients": 2, "scanner": "ACME"}}, "GE, SIEMENS"),
        ({"north": {"patients": 2, "format": "nifti"}}, "dicom, luna16"),
        ({"north": {"patients": 2, "matrx": 64}}, "matrix"),
        ({"north": {"patients": 2, "matrix": "large"}}, "north"),
        ({"north": {}}, "patients is missing"),
        ({"../north": {"patients": 2}}, "becomes a folder"),
    ],
)
def test_settings_that_make_no_sense_are_refused_before_anything_is_written(tmp_path, hospitals, message):
    with pytest.raises(BadSetting, match=message):
        write_cohort(tmp_path / "cohort", hospitals=hospitals, seed=0)
    assert not (tmp_path / "cohort").exists()


def test_a_full_disk_leaves_finished_hospitals_and_nothing_half_written(tmp_path, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("data.synthetic.layouts.mhd.write", full)
    with pytest.raises(NoRoom, match="free some space"):
        write_cohort(tmp_path, hospitals=TWO, seed=7, workers=1)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["north"]


def test_what_a_killed_writer_left_is_removed_and_not_taken_for_a_hospital(tmp_path):
    (tmp_path / ".north.partial" / "data").mkdir(parents=True)
    write_cohort(tmp_path, hospitals={"north": TWO["north"]}, seed=7, workers=1)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["north"]


def test_patients_and_frame_decide_the_fingerprint():
    orders = [
        Order(2),
        Order(3),
        Order(2, "SIEMENS"),
        Order(2, format="luna16"),
        Order.of({"patients": 2, "matrix": 64}),
    ]
    prints = {order.fingerprint(name, seed) for order in orders for name in ("A", "B") for seed in (0, 1)}
    assert len(prints) == 4 * len(orders)
    assert Order(2).key("A", 0, 1) == Order(3).key("A", 0, 1)


WRITER = textwrap.dedent("""
    import sys
    from data.synthetic import write_cohort
    if __name__ == "__main__":
        facts = {"patients": 500, "matrix": 40, "field_of_view_mm": 100.0, "length_mm": 36.0, "candidates": 4}
        write_cohort(sys.argv[1], hospitals={"north": facts}, seed=0, workers=2,
                     progress=lambda done, total: print(done, flush=True))
""")


@pytest.fixture
def writer(tmp_path):
    """A process that writes a large cohort with two others, and has begun to."""
    script = tmp_path / "writer.py"
    script.write_text(WRITER)
    process = subprocess.Popen(
        [sys.executable, str(script), str(tmp_path / "cohort")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[3])},
    )
    assert process.stdout.readline().strip() == "1"
    yield process
    process.stdout.close()
    process.stderr.close()


def _gone_within(processes: list[psutil.Process], seconds: float) -> bool:
    _, alive = psutil.wait_procs(processes, timeout=seconds)
    return all(process.status() == psutil.STATUS_ZOMBIE for process in alive)  # ended; nobody has asked for its status


@pytest.mark.slow
def test_ctrl_c_leaves_no_process_and_nothing_half_written(writer, tmp_path):
    children = psutil.Process(writer.pid).children(recursive=True)
    assert len(children) >= 2
    asked = time.monotonic()
    os.killpg(writer.pid, signal.SIGINT)
    assert "KeyboardInterrupt" in writer.communicate(timeout=20)[1]
    assert time.monotonic() - asked < 10  # a second or two on a machine that does nothing else
    assert _gone_within(children, 1)
    assert list((tmp_path / "cohort").iterdir()) == []


@pytest.mark.slow
def test_processes_end_with_a_killed_parent_and_the_next_writer_cleans_up(writer, tmp_path):
    children = psutil.Process(writer.pid).children(recursive=True)
    writer.kill()
    writer.wait(10)
    assert _gone_within(children, 5)
    write_cohort(tmp_path / "cohort", hospitals={"south": TWO["south"]}, seed=7, workers=1)
    assert [p.name for p in (tmp_path / "cohort").iterdir()] == ["south"]
    assert json.loads((tmp_path / "cohort" / "south" / "cohort.json").read_text())["patients"] == 3
