"""A run over Flower's own runtime, killed with all its processes, and resumed over it."""

import contextlib
import os
import subprocess
import sys
import time

import numpy as np
import psutil
import pytest
from safetensors.numpy import load_file

from app.commands import console, launch
from app.rounds.folder import opened
from tests.federation.conftest import SMALL

STATE_EVERYWHERE = ["strategy=scaffold", "strategy/server_opt=momentum"]
"""Scaffold's plain SGD, too: AdamW divides by gradients near zero, and makes 1e-2 of a sum in another order."""


def fedvox(*args, home):
    command = [sys.executable, "-m", "app", *map(str, args)]
    env = {**os.environ, "FEDVOX_HOME": str(home)}
    return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def kill_all(process):
    """The command, the SuperLink that it started, Flower's and Ray's processes: SIGKILL, so that nobody tidies up."""
    tree = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    for one in tree:
        with contextlib.suppress(psutil.NoSuchProcess):
            one.kill()
    process.communicate(timeout=60)


def wait_for_lines(folder, number):
    until = time.monotonic() + 200
    while time.monotonic() < until:
        if (folder / "rounds.jsonl").exists() and len(opened(folder).lines()) >= number:
            return
        time.sleep(0.05)
    raise AssertionError("no round was done in 200 s")


@pytest.mark.slow
def test_a_run_over_flower_that_was_killed_resumes_to_the_same_model(cubes, tmp_path, home):
    overrides = [*SMALL, f"source.path={cubes}", "rounds=5", *STATE_EVERYWHERE]
    killed = tmp_path / "killed"
    process = fedvox("run", *overrides, "--run-dir", killed, home=home)
    try:
        wait_for_lines(killed, 1)
    finally:
        kill_all(process)
    done_before = len(opened(killed).lines())
    assert 1 <= done_before < 5
    assert not (killed / "summary.json").exists()
    resumed = fedvox("run", "--resume", killed, home=home)
    said, _ = resumed.communicate(timeout=240)
    assert resumed.returncode == 0, said
    assert [line["round"] for line in opened(killed).lines()] == [1, 2, 3, 4, 5]
    job = launch.fresh(tmp_path / "undisturbed", overrides)
    launch.start(job, engine="inprocess", superlink=None, screen=console.Console())
    ours, theirs = (load_file(tmp_path / name / "model.safetensors") for name in ("killed", "undisturbed"))
    assert max(float(np.abs(ours[name] - theirs[name]).max()) for name in theirs) < 1e-6
