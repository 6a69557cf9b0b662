"""The command line: one line for every fault, exit codes that say what happened, nothing half-made."""

import json

import numpy as np
import pytest

from app.cli import main
from tests.federation.conftest import SMALL


def fault(capsys, *args):
    """Run, expect failure; exit code and the one line."""
    try:
        code = main(args)
    except SystemExit as exit:
        code = exit.code
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("fedvox")]
    assert len(lines) == 1, lines
    return code, lines[0]


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (["run", "round=3"], 2, "did you mean 'rounds'"),
        (["run", "+model.max_pool=false", "round=3"], 2, "did you mean 'rounds'"),
        (["run", "rounds"], 2, "rounds"),
        (["run", "--engin", "ray"], 2, "invalid choice"),
        (["run", "training.lr=-1"], 2, "training.lr"),
        (["run", "baseline=size"], 2, "nonzero_voxels"),
        (["run", "device=gpu"], 2, "write auto, cpu, cuda"),
        (["run", "quorum=4"], 2, "there are 3 hospitals"),
        (["run", "split.test=0.9", "split.validation=0.2"], 2, "together below 1"),
        (["run", "source=cubes"], 2, "source.path is not set"),
        (["run", "--resume", "/nowhere"], 2, "no run folder"),
        (["run", "federation=sites", "federation.sites=/nowhere"], 2, "no hospital in /nowhere"),
        (["run", "--engine", "inprocess", "source=dicom", "source.path=/nowhere"], 1, "/nowhere"),
        (["sweep", "--sweep", "weighting"], 2, "did you mean 'weightings'"),
        (["sweep", "training.lr=interval(0,1)"], 2, "grid"),
    ],
)
def test_faults_are_one_line_with_a_remedy(capsys, tmp_path, monkeypatch, args, code, said):
    monkeypatch.chdir(tmp_path)
    run_dir = ["--run-dir", str(tmp_path / "run")] if args[0] == "run" and "--resume" not in args else []
    got, line = fault(capsys, *args, *run_dir)
    assert (got, said in line) == (code, True), line


def test_a_folder_that_exists_is_not_touched(capsys, tmp_path, cubes):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.txt").write_text("precious")
    code, line = fault(capsys, "run", *SMALL, f"source.path={cubes}", "--run-dir", str(tmp_path / "run"))
    assert (code, "--resume" in line) == (2, True)
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["thesis.txt"]


def test_a_run_prints_its_table_or_its_json(capsys, tmp_path, cubes):
    args = ["run", *SMALL, f"source.path={cubes}", "rounds=1", "--engine", "inprocess"]
    assert main([*args, "--run-dir", str(tmp_path / "a")]) == 0
    said = capsys.readouterr().out
    assert all(word in said for word in ("GE", "SIEMENS", "PHILIPS", "pooled", "not private", str(tmp_path / "a")))
    assert main([*args, "--run-dir", str(tmp_path / "b"), "--json", "seed=3"]) == 0
    assert json.loads(capsys.readouterr().out)["seed"] == 3


def test_an_npz_without_its_keys_is_refused_by_name(capsys, tmp_path):
    np.savez(tmp_path / "x.npz", images=np.zeros((2, 4, 4, 4), np.uint8))
    args = ["run", *SMALL, f"source.path={tmp_path / 'x.npz'}", "--engine", "inprocess"]
    code, line = fault(capsys, *args, "--run-dir", str(tmp_path / "run"))
    assert (code, "x.npz" in line) == (1, True)


def test_a_hospital_with_one_class_trains_and_its_auc_is_null(capsys, tmp_path):
    rng = np.random.default_rng(0)
    vendor = np.repeat(["GE", "SIEMENS", "PHILIPS"], 40)
    y = np.where(vendor == "PHILIPS", 0, np.arange(120) % 2)
    x = rng.integers(0, 255, (120, 16, 16, 16)).astype(np.uint8)
    np.savez(tmp_path / "x.npz", x=x, y=y, patient=np.arange(120).astype(str), vendor=vendor)
    args = ["run", *SMALL, f"source.path={tmp_path / 'x.npz'}", "rounds=1", "--engine", "inprocess", "--json"]
    assert main([*args, "--run-dir", str(tmp_path / "run")]) == 0
    rows = json.loads(capsys.readouterr().out)["hospitals"]
    assert rows["PHILIPS"]["auc"] is None
    assert rows["PHILIPS"]["rounds"] == 1
    assert rows["GE"]["auc"] is not None


def test_a_run_that_could_score_nothing_is_refused(capsys, tmp_path):
    y = np.zeros(90, int)
    vendor = np.repeat(["GE", "SIEMENS", "PHILIPS"], 30)
    np.savez(tmp_path / "x.npz", x=np.zeros((90, 16, 16, 16), np.uint8), y=y, patient=np.arange(90), vendor=vendor)
    args = ["run", *SMALL, f"source.path={tmp_path / 'x.npz'}", "--engine", "inprocess"]
    code, line = fault(capsys, *args, "--run-dir", str(tmp_path / "run"))
    assert (code, "0 of them positive" in line) == (1, True), line


def test_a_run_goes_on_by_the_code_and_on_the_data_that_it_began_with(capsys, tmp_path, cubes):
    run = str(tmp_path / "run")
    assert main(["run", *SMALL, f"source.path={cubes}", "rounds=1", "--engine", "inprocess", "--run-dir", run]) == 0
    moved = tmp_path / "moved.npz"
    moved.write_bytes(cubes.read_bytes())
    again = ["run", "--engine", "inprocess", "--resume", run, *SMALL, "rounds=1"]
    assert main([*again, f"source.path={moved}"]) == 0
    capsys.readouterr()
    code, line = fault(capsys, *again, f"source.path={cubes}", "+source.splits=[train]")
    assert (code, "source.splits" in line) == (2, True), line
    told = tmp_path / "run" / "fingerprint.json"
    told.write_text(json.dumps({**json.loads(told.read_text()), "code": "0123456789abcdef"}))
    code, line = fault(capsys, *again, f"source.path={cubes}")
    assert (code, "0123456789abcdef" in line) == (2, True), line


def test_a_sweep_ranks_resumes_and_writes_tables(capsys, tmp_path, cubes):
    args = ["sweep", *SMALL, f"source.path={cubes}", "rounds=1", "training.lr=0.0001,0.01"]
    assert main([*args, "--sweep-dir", str(tmp_path / "sweep"), "--json"]) == 0
    ranking = json.loads(capsys.readouterr().out)
    assert [row["rank"] for row in ranking] == [1, 2]
    assert ranking[0]["value"] >= ranking[1]["value"]
    assert json.loads((tmp_path / "sweep" / "ranking.json").read_text()) == ranking
    assert (tmp_path / "sweep" / "ranking.csv").read_text().startswith("rank,value,training.lr,status,folder")
    stamps = {path: path.stat().st_mtime_ns for path in (tmp_path / "sweep").rglob("summary.json")}
    assert main([*args, "--sweep-dir", str(tmp_path / "sweep"), "--json"]) == 0
    assert stamps == {path: path.stat().st_mtime_ns for path in (tmp_path / "sweep").rglob("summary.json")}


def test_synthetic_hospitals_stand_as_in_reality(capsys, tmp_path):
    assert main(["data", "synth", str(tmp_path / "h"), "source.patients=3"]) == 0
    for name in "ABC":
        assert {"site.yaml", "data", "state"} <= {path.name for path in (tmp_path / "h" / name).iterdir()}


@pytest.mark.parametrize("verb", [[], ["run"], ["sweep"], ["data"], ["data", "synth"]])
def test_help_is_there_for_every_verb(capsys, verb):
    with pytest.raises(SystemExit) as exit:
        main([*verb, "--help"])
    assert exit.value.code == 0
    assert len(capsys.readouterr().out) > 200
