"""The real runtime: SuperLink, Ray actors, the CLI as a user starts it. Slow, and the only proof that it works."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from safetensors.numpy import load_file

from app import processes
from app.commands import console, launch
from app.config import CONF
from tests.federation.conftest import SMALL

pytestmark = pytest.mark.slow

INTERRUPT_SECONDS = 5.0


def fedvox(*args, home):
    command = [sys.executable, "-m", "app", *args]
    env = {**os.environ, "FEDVOX_HOME": str(home)}
    return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def test_flower_s_runtime_and_one_process_make_the_same_model(cubes, tmp_path, home):
    overrides = [*SMALL, f"source.path={cubes}", "rounds=1"]
    over_flower = fedvox("run", *overrides, "--run-dir", str(tmp_path / "flower"), home=home)
    said, _ = over_flower.communicate(timeout=600)
    assert over_flower.returncode == 0, said
    job = launch.fresh(tmp_path / "local", overrides)
    local = launch.start(job, engine="inprocess", superlink=None, screen=console.Console())
    flower = json.loads((tmp_path / "flower" / "summary.json").read_text())
    assert (flower["engine"], local["engine"]) == ("flower", "inprocess")
    assert flower["hospitals"].keys() == local["hospitals"].keys()
    ours, theirs = (load_file(tmp_path / name / "model.safetensors") for name in ("local", "flower"))
    assert max(float(np.abs(ours[name] - theirs[name]).max()) for name in ours) < 1e-6
    assert flower["pooled"]["auc"] == pytest.approx(local["pooled"]["auc"], abs=1e-3)
    assert "pooled" in said
    assert str(tmp_path / "flower") in said


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_everything_quickly_and_says_how_to_go_on(cubes, tmp_path, home, number):
    overrides = [*SMALL, f"source.path={cubes}", "rounds=1000"]
    process = fedvox("run", *overrides, "--run-dir", str(tmp_path / "run"), home=home)
    started: list[psutil.Process] = []
    try:
        journal = tmp_path / "run" / "rounds.jsonl"
        until = time.monotonic() + 400
        while not journal.exists() and time.monotonic() < until:
            time.sleep(0.2)
        started = psutil.Process(process.pid).children(recursive=True)
        assert any("ray" in " ".join(p.cmdline()) for p in started)
        begun = time.monotonic()
        process.send_signal(number)
        said, _ = process.communicate(timeout=60)
        assert time.monotonic() - begun < INTERRUPT_SECONDS
        assert process.returncode == 130
        assert "--resume" in said
        assert not [p for p in started if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]
    finally:
        process.kill()
        for left in started:
            with contextlib.suppress(psutil.NoSuchProcess):
                left.kill()
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert (summary["status"], summary["stopped"]) == ("stopped", "interrupted")


def test_plain_flwr_run_is_a_whole_run(cubes, tmp_path):
    line = " ".join([*SMALL, f"source.path={cubes}", "rounds=1"])
    settings = tmp_path / "run.toml"
    settings.write_text(f"overrides = {json.dumps(line)}\n")
    marks = {"FLWR_HOME": str(tmp_path / "flower"), "FEDVOX_HOME": str(tmp_path / "home")}
    env = {**os.environ, **marks, "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1", "FLWR_TELEMETRY_ENABLED": "0"}
    env["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{env['PATH']}"
    command = ["flwr", "run", ".", "--stream", "--run-config", str(settings)]
    try:
        told = subprocess.run(command, cwd=CONF.parent, env=env, capture_output=True, text=True, timeout=600)
    finally:  # `flwr run` leaves its local SuperLink behind
        processes.end(list(processes.marked(marks)))
    (summary,) = (tmp_path / "home" / "runs").glob("*/summary.json")
    assert json.loads(summary.read_text())["status"] == "completed", told.stdout
