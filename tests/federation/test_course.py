"""What steers a run over its rounds: where it begins, when it ends, which model it delivers."""

import json

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from app import client_app
from app.commands import console, launch
from app.config import ConfigError, build, compose
from app.site import work
from models.norm import tensor_kinds
from models.weights import WeightsError
from strategies import records
from strategies.sharing import NORM_KINDS


def model_of(folder):
    return load_file(folder.path / "model.safetensors")


def resume(folder):
    launch.start(launch.resumed(folder.path, []), engine="inprocess", superlink=None, screen=console.Console())


@pytest.fixture
def medicalnet(tmp_path):
    """A checkpoint as MedicalNet publishes them: "module." before each name, another head."""
    model = build(compose(["model=tiny", "model.widths=[8,8,16,16]"])["model"])
    tensors = {f"module.{name}": torch.full_like(t, 0.01) for name, t in model.state_dict().items() if "fc" not in name}
    path = tmp_path / "resnet_10.pth"
    torch.save({"state_dict": {**tensors, "module.conv_seg.weight": torch.zeros(2, 2)}}, path)
    return path


def test_training_begins_at_a_checkpoint(run, medicalnet):
    folder, summary = run(f"weights={medicalnet}", "rounds=1", "training.lr=1e-7")
    report = json.loads((folder.path / "weights.json").read_text())
    assert set(report["missing"]) == {"fc.weight", "fc.bias"}
    assert report["unknown"] == ["conv_seg.weight"]
    assert summary["status"] == "completed"
    # a round at this learning rate moves nothing by more than 1e-5
    assert all(np.allclose(tensor, 0.01, atol=1e-5) for name, tensor in model_of(folder).items() if "fc" not in name)


def test_what_a_checkpoint_gave_is_said_before_the_first_round(overrides, medicalnet, tmp_path):
    job = launch.fresh(tmp_path / "run", [*overrides, f"weights={medicalnet}"])
    assert job.began_with.endswith("36 matched; 2 missing (fc.weight, fc.bias); 1 unknown (conv_seg.weight)")


def test_a_frozen_trunk_comes_from_the_checkpoint_and_stays(run, medicalnet):
    folder, _ = run(f"weights={medicalnet}", "strategy=partial", "strategy.sharing.layers=[fc]")
    trunk = {name: tensor for name, tensor in model_of(folder).items() if "fc" not in name}
    assert all((tensor == np.float32(0.01)).all() for tensor in trunk.values())
    # 17 numbers travel, and two headers of 128 bytes
    assert folder.lines()[-1]["bytes_up"]["GE"] == 4 * 17 + 2 * 128


def test_a_run_goes_on_from_another_run_s_model(run):
    first, _ = run("rounds=1", name="first")
    second, _ = run(f"weights={first.path / 'model.safetensors'}", "rounds=1", "training.lr=1e-9", name="second")
    assert all(np.allclose(model_of(first)[name], tensor, atol=1e-6) for name, tensor in model_of(second).items())
    assert json.loads((second.path / "weights.json").read_text())["missing"] == []


def test_a_model_s_file_says_what_stayed_home_and_so_does_a_run_that_begins_at_it(run, caplog):
    first, _ = run("strategy=fedbn", "rounds=1", name="first")
    home = json.loads((first.path / "model.json").read_text())["stayed_home"]
    kinds = tensor_kinds(build(compose(["model=tiny"])["model"]))
    assert set(home["tensors"]) == {name for name, kind in kinds.items() if kind in NORM_KINDS} > set()
    assert "before round 1" in home["note"]
    second, _ = run(f"weights={first.path / 'model.safetensors'}", "rounds=1", name="second")
    assert json.loads((second.path / "weights.json").read_text())["initial"] == home["tensors"]
    assert f"{len(home['tensors'])} tensors have the values that their run began with" in caplog.text
    third, _ = run(f"weights={second.path / 'model.safetensors'}", "strategy=partial", "rounds=1",
                   "strategy.sharing.layers=[fc]", name="third")  # fmt: skip
    assert json.loads((third.path / "weights.json").read_text())["initial"] == []
    # a frozen trunk stayed home too, but nobody has another one
    assert json.loads((third.path / "model.json").read_text())["stayed_home"] is None


def test_a_checkpoint_that_does_not_fit_is_refused_before_a_folder_exists(run, tmp_path):
    other = tmp_path / "other.pth"
    torch.save({"encoder.weight": torch.zeros(2)}, other)
    with pytest.raises(WeightsError, match="does not fit"):
        run(f"weights={other}")
    assert not (tmp_path / "run").exists()


def test_the_best_model_is_delivered_where_that_is_asked_for(run):
    # a learning rate that ruins the model later: a round's best is not its last
    settings = ["rounds=4", "training.lr=0.3", "training.optimiser=sgd", "strategy/server_opt=momentum"]
    folder, _ = run(*settings, "stopping.keep_best=true")
    delivered = json.loads((folder.path / "model.json").read_text())["history"]["rounds"]
    values = [line["validation_auc"] for line in folder.lines()]
    plain, _ = run(*settings, name="plain")
    assert json.loads((plain.path / "model.json").read_text())["history"]["rounds"] == 4
    assert 0 < delivered == int(np.argmax(values)) < 4
    short, _ = run(*settings, f"rounds={delivered}", name="short")
    assert all(np.array_equal(model_of(short)[name], tensor) for name, tensor in model_of(folder).items())


@pytest.mark.parametrize("strategy", ["fedbn", "ditto"])
def test_the_best_model_is_refused_where_hospitals_hold_parts_of_it(run, strategy):
    with pytest.raises(ConfigError, match="keep_best"):
        run("stopping.keep_best=true", f"strategy={strategy}")


def test_a_run_that_was_stopped_stays_stopped(run):
    folder, summary = run("rounds=30", "stopping.target=0.6")
    rounds, before = summary["rounds"], model_of(folder)
    folder.summary.unlink()  # killed while the final model was scored
    resume(folder)
    again = json.loads(folder.summary.read_text())
    assert (again["stopped"], again["rounds"]) == ("target", rounds)
    assert all(np.array_equal(before[name], tensor) for name, tensor in model_of(folder).items())


def test_a_run_ends_with_the_hospitals_budget_and_keeps_what_it_learned(run, monkeypatch):
    honest = client_app.app

    def poor(message, context):
        if message.metadata.message_type == "train" and records.read_plan(message).round > 2:
            return records.decline(message, "budget-cap")
        return honest(message, context)

    short, _ = run("rounds=2", name="short")
    monkeypatch.setattr(client_app, "app", poor)
    folder, summary = run("rounds=9")
    assert (summary["status"], summary["stopped"], summary["rounds"]) == ("stopped", "budget", 3)
    assert all(np.array_equal(model_of(short)[name], tensor) for name, tensor in model_of(folder).items())
    folder.summary.unlink()
    resume(folder)
    assert json.loads(folder.summary.read_text())["stopped"] == "budget"


def test_another_schedule_is_another_run_and_a_resume_with_it_is_refused(run):
    constant, _ = run(name="constant")
    cosine, _ = run("schedule=cosine", "schedule.warmup=1", name="cosine")
    assert any((model_of(constant)[name] != tensor).any() for name, tensor in model_of(cosine).items())
    job = [*launch.folders.opened(constant.path).overrides(), "schedule=cosine"]
    with pytest.raises(ConfigError, match=r"schedule\.warmup"):
        launch.resumed(constant.path, job)


def test_late_answers_and_benches_are_settings_of_the_engine(run):
    folder, summary = run("engine.max_staleness=2", "engine.norm_ratio=null", "engine.strikes=1")
    assert summary["status"] == "completed"
    assert len(folder.lines()) == 2


def test_hospitals_stop_early_where_their_own_validation_patients_say_so(run):
    folder, _ = run("rounds=1", "training.epochs=6", "training.patience=1", "training.lr=0.1")
    full, _ = run("rounds=1", "training.epochs=6", "training.lr=0.1", name="full")
    steps = [{n: r["steps"] for n, r in f.lines()[0]["reports"].items()} for f in (folder, full)]
    assert all(steps[0][name] <= steps[1][name] for name in steps[1])
    assert steps[0] != steps[1]


def test_a_hospital_that_reports_too_little_memory_is_asked_last(run, monkeypatch):
    free = iter([100.0, *[9000.0] * 20])
    monkeypatch.setattr(work.devices, "free_mb", lambda device: next(free))
    folder, _ = run("strategy/selection=dynamic", "strategy.selection.memory_mb=4000", "rounds=2")
    first, second = folder.lines()
    (tight,) = [name for name, report in first["reports"].items() if report["memory_mb"] == 100.0]
    assert len(first["reports"]) == 3
    # of three hospitals with room at two, at most ⌈(0.3 + 0.5 · 2/3) · 3⌉ = 2 are asked
    assert tight not in second["asked"]
