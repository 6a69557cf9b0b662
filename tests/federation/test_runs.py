"""Whole runs: what they leave on disk, what they say, and that they say it again."""

import itertools
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from app.commands.errors import RunFailed
from app.config import CONF, build, compose, from_line
from app.fingerprint import code_hash
from app.home import home
from app.rounds.checkpoint import load_state
from app.site.directory import open_site
from app.site.memory import Memory
from app.site.site import divide
from app.training.fit import fit
from models.parameters import get_tensors, set_tensors
from models.resnet3d import init
from tests.federation.conftest import SMALL

CONTRACT = {
    "schema", "status", "stopped", "engine", "seed", "rounds", "seconds", "threshold", "pooled", "hospitals",
    "fingerprint", "validation",
}  # fmt: skip
ROW = {
    "patients", "test_patients", "train_samples", "auc", "auc_low", "auc_high", "privacy", "bytes_up", "bytes_down",
    "seconds", "device", "rounds", "refused",
}  # fmt: skip


def models_of(folder):
    return load_file(folder.path / "model.safetensors")


def largest_difference(a, b):
    assert a.keys() == b.keys()
    return max(float(np.abs(a[name].astype(np.float64) - b[name]).max()) for name in a)


def test_a_run_leaves_the_folder_that_it_promises(run):
    folder, summary = run()
    names = {path.name for path in folder.path.iterdir()}
    promised = {"config.yaml", "overrides.txt", "fingerprint.json", "rounds.jsonl", "checkpoint", "model.safetensors",
                "model.json", "summary.json"}  # fmt: skip
    assert promised <= names
    assert summary == json.loads((folder.path / "summary.json").read_text())
    assert summary.keys() == CONTRACT
    assert all(row.keys() == ROW for row in summary["hospitals"].values())
    assert (summary["status"], summary["stopped"], summary["rounds"]) == ("completed", "rounds", 2)
    assert [line["round"] for line in folder.lines()] == [1, 2]


def test_weights_by_size_are_the_shares_of_training_patients(run):
    folder, _ = run()
    line = folder.lines()[-1]
    patients = {name: report["patients"] for name, report in line["reports"].items()}
    for name, weight in line["weights"].items():
        assert weight == pytest.approx(patients[name] / sum(patients.values()))


def test_a_run_repeats_bit_by_bit(run):
    first, _ = run(name="first")
    again, _ = run(name="again")
    assert largest_difference(models_of(first), models_of(again)) == 0.0


def test_another_seed_is_another_run(run):
    first, _ = run(name="first")
    other, _ = run("seed=1", name="other")
    assert largest_difference(models_of(first), models_of(other)) > 1e-3


def test_one_round_is_a_plain_fedavg_loop(run, overrides):
    """The yardstick is written out here: train each hospital from the same start, average by training patients."""
    folder, _ = run("rounds=1")
    config = compose([*overrides, "rounds=1"])
    start = build(config["model"])
    init(start, 0)
    initial = get_tensors(start)
    trained, sizes = [], []
    for name in config["federation"]["hospitals"]:
        crops = divide(open_site(config, name).crops(config), config["split"], fold=-1, seed=0).train
        set_tensors(start, initial)
        fit(start, crops, training=build(config["training"]), device=torch.device("cpu"), address=(0, "", name, 1),
            augment=build(config["augment"]))  # fmt: skip
        trained.append(get_tensors(start))
        sizes.append(len(set(crops.patients)))
    mean = {key: sum(n * t[key] for n, t in zip(sizes, trained, strict=True)) / sum(sizes) for key in initial}
    assert largest_difference(models_of(folder), mean) < 1e-6


def test_it_learns_what_is_easy(run):
    _, summary = run("rounds=5")
    assert summary["pooled"]["auc"] > 0.95
    assert summary["pooled"]["auc_low"] <= summary["pooled"]["auc"] <= summary["pooled"]["auc_high"]


def test_the_pooled_auc_is_of_all_crops_together(run):
    folder, summary = run("rounds=1")
    from app.metrics import classification

    scores = np.load(folder.path / "scores" / "all.npz")
    pooled = sum(scores[key].astype(int) for key in scores.files if key.endswith("/test"))
    assert summary["pooled"]["auc"] == pytest.approx(classification.auc(pooled))


def test_a_stopped_run_says_why(run):
    _, summary = run("rounds=30", "stopping.target=0.6")
    assert (summary["status"], summary["stopped"]) == ("stopped", "target")
    assert summary["rounds"] < 30


def test_central_is_the_same_data_in_one_place(run):
    folder, summary = run("federation.mode=central")
    assert set(summary["hospitals"]) == {"GE", "SIEMENS", "PHILIPS"}
    (line,) = {tuple(line["reports"]) for line in folder.lines()}
    assert line == ("central",)


def test_local_models_are_scored_on_everybody_s_test(run):
    folder, summary = run("federation.mode=local_only", "rounds=1")
    assert set(summary["models"]) == {"GE", "SIEMENS", "PHILIPS"}
    assert all((folder.path / "legs" / name / "model.safetensors").exists() for name in summary["models"])


def test_folds_test_every_patient_once(run):
    folder, summary = run("split=folds", "split.folds=3", "rounds=1", "baseline=nonzero_voxels")
    assert sum(row["test_patients"] for row in summary["hospitals"].values()) == 90
    assert summary["baseline"]["name"] == "nonzero_voxels"
    assert {"fold0", "fold1", "fold2"} == {line["leg"] for line in folder.lines()}


@pytest.mark.parametrize("weighting", ["size", "quality", "recency", "equal", "size_quality"])
def test_every_weighting_runs_and_its_weights_add_up(run, weighting):
    folder, _ = run(f"strategy/weighting={weighting}", "rounds=1")
    (line,) = folder.lines()
    assert sum(line["weights"].values()) == pytest.approx(1.0)


PRESETS = sorted(path.stem for path in (CONF / "strategy").glob("*.yaml") if path.stem != "base")


NEEDS = {
    "partial": ["strategy.sharing.layers=[fc,layer4]"],
    # Three hospitals withstand nobody: n ≥ 2f + 3.
    "krum": ["strategy.aggregate.byzantine=0"],
    "multikrum": ["strategy.aggregate.byzantine=0", "strategy.aggregate.chosen=2"],
}


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_runs(run, preset):
    folder, summary = run(f"strategy={preset}", *NEEDS.get(preset, []))
    assert summary["status"] == "completed"
    assert summary["rounds"] == 2
    assert len(folder.lines()[-1]["reports"]) == 3
    assert all(np.isfinite(tensor).all() for tensor in models_of(folder).values())


def test_norms_stay_home_under_fedbn(run):
    folder, _ = run("strategy=fedbn")
    whole, _ = run("strategy=fedavg", name="whole")
    norms = {name for name in models_of(folder) if ".bn" in name or name.startswith("bn")}
    start = get_tensors(build(compose([*SMALL[:1], "model=tiny", "model.widths=[8,8,16,16]"])["model"]))
    assert norms
    assert all(np.array_equal(models_of(folder)[name], start[name]) for name in norms)
    up = lambda f: sum(f.lines()[-1]["bytes_up"].values())  # noqa: E731 - a name for the comparison
    assert up(folder) < up(whole)


def test_ditto_gives_each_hospital_a_model_of_its_own_that_moves_from_round_to_round(run):
    folder, summary = run("strategy=ditto")
    assert all(row["own_model"]["auc"] is not None for row in summary["hospitals"].values())
    everywhere = load_file(folder.path / "model.safetensors")["conv1.weight"]
    states = [*home().glob(f"sites/**/runs/{folder.run_name()}/all/*")]
    own = [Memory(state).before(round)["own"]["conv1.weight"] for state in states for round in (2, 3)]
    assert len(own) == 2 * 3
    assert all(not np.array_equal(a, b) for a, b in itertools.combinations([everywhere, *own], 2))


def test_resume_ends_where_the_undisturbed_run_ends(run, tmp_path):
    from app.commands import console, launch

    whole, _ = run("rounds=4", name="whole")
    half, _ = run("rounds=4", name="half")
    # As after a kill in round 3: journalled, not yet checkpointed.
    (half.path / "summary.json").unlink()
    state = half.path / "checkpoint"
    (state / "state.safetensors").unlink()
    lines = half.journal.read_text().splitlines(keepends=True)
    half.journal.write_text("".join(lines[:4]) + lines[3][:20])
    assert load_state(state).round == 3
    launch.start(launch.resumed(half.path, []), engine="inprocess", superlink=None, screen=console.Console())
    assert largest_difference(models_of(whole), models_of(half)) == 0.0
    assert [line["round"] for line in half.lines()] == [1, 2, 3, 4]


def test_a_hospital_with_other_code_is_left_out_by_name(run, monkeypatch):
    from app.site import place

    real = place.check_fingerprint
    other = {"SIEMENS"}
    monkeypatch.setattr(
        place, "check_fingerprint", lambda plan, config: real(
            replace(plan, code="feedfeedfeedfeed") if plan.hospital in other else plan, config
        )
    )  # fmt: skip
    folder, summary = run("rounds=1")
    code = f"other-code-{code_hash()}"
    assert (summary["status"], summary["hospitals"]["SIEMENS"]["auc"]) == ("completed", None)
    assert summary["hospitals"]["SIEMENS"]["refused"] == [{"round": 1, "code": code}] * 2
    assert set(folder.lines()[0]["reports"]) == {"GE", "PHILIPS"}
    other |= {"GE", "PHILIPS"}
    with pytest.raises(RunFailed, match=code):
        run("rounds=1", name="nobody")


def test_overrides_of_a_run_can_be_composed_again(run):
    folder, _ = run("rounds=1")
    assert compose(from_line((folder.path / "overrides.txt").read_text()))["rounds"] == 1
