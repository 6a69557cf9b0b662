"""A run over Flower's own runtime, whose processes are killed, all together and one by one; resumed each time."""

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

STATE_EVERYWHERE = ["strategy=scaffold", "strategy.local.lr=0.005", "strategy/server_opt=momentum"]
"""Scaffold's plain SGD, too: AdamW divides by gradients near zero, and makes 1e-2 of a sum in another order."""

ROUNDS = 14

DEATHS = {
    "ray::ClientAppActor": "a process of Flower's simulation died",
    "flwr-simulation": "without an outcome",
}
"""What is killed, and what the command then says: the hospitals' workers; the process of ServerApp and simulation."""


def fedvox(*args, home):
    command = [sys.executable, "-m", "app", *map(str, args)]
    env = {**os.environ, "FEDVOX_HOME": str(home)}
    return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def family(process):
    """The command, the SuperLink that it started, Flower's and Ray's processes."""
    return [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]


def kill(processes):
    """SIGKILL, so that nobody tidies up."""
    for one in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            one.kill()


def running(process, program):
    """The processes of a run that are this program."""
    found = []
    for one in family(process):
        with contextlib.suppress(psutil.Error):
            found += [one] if any(program in word for word in one.cmdline()[:2]) else []
    assert found, f"no {program} runs"
    return found


def wait_for_lines(folder, number):
    until = time.monotonic() + 200
    while time.monotonic() < until:
        if (folder / "rounds.jsonl").exists() and len(opened(folder).lines()) >= number:
            return
        time.sleep(0.05)
    raise AssertionError("no round was done in 200 s")


def rounds_done(folder):
    return len(opened(folder).lines())


def ended_by_death_of(program, process, folder):
    """Kill it after one more round. Returns the command's exit code, and what it said."""
    before = rounds_done(folder)
    try:
        wait_for_lines(folder, before + 1)
        kill(running(process, program))
        said, _ = process.communicate(timeout=200)
        return process.returncode, said
    finally:
        kill(family(process) if process.poll() is None else [])


@pytest.mark.slow
def test_a_run_over_flower_whose_processes_are_killed_resumes_to_the_same_model(cubes, tmp_path, home):
    overrides = [*SMALL, f"source.path={cubes}", f"rounds={ROUNDS}", *STATE_EVERYWHERE]
    killed, resume = tmp_path / "killed", ("run", "--resume", tmp_path / "killed")
    process = fedvox("run", *overrides, "--run-dir", killed, home=home)
    try:
        wait_for_lines(killed, 1)
    finally:
        kill(family(process))
        process.communicate(timeout=60)
    assert not (killed / "summary.json").exists()
    for program, says in DEATHS.items():
        returned, said = ended_by_death_of(program, fedvox(*resume, home=home), killed)
        assert returned == 1, f"{program}: {said}"
        assert says in said, program
    assert rounds_done(killed) < ROUNDS
    # A simulation does not need its SuperLink any more.
    returned, said = ended_by_death_of("flower-superlink", fedvox(*resume, home=home), killed)
    assert returned == 0, said
    assert [line["round"] for line in opened(killed).lines()] == list(range(1, ROUNDS + 1))
    job = launch.fresh(tmp_path / "undisturbed", overrides)
    launch.start(job, engine="inprocess", superlink=None, screen=console.Console())
    ours, theirs = (load_file(tmp_path / name / "model.safetensors") for name in ("killed", "undisturbed"))
    assert max(float(np.abs(ours[name] - theirs[name]).max()) for name in theirs) < 1e-6
