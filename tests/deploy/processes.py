"""The real processes of a deployment, started as their users start them, and what can be done to them."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil
from safetensors.numpy import load_file

from app.processes import end, tree

TINY = [
    "model=tiny", "model.widths=[4,8,8,16]", "preprocess=ct24", "training.batch_size=16", "training.lr=0.01",
    "augment=flips", "replicates=20", "deadline_s=45", "wait_s=60", "comparison=off", "quorum=2",
]  # fmt: skip
"""A run whose training takes a second or two, so that what is seen is the deployment."""


STEADY = ["training=sgd", "training.lr=0.01"]
"""For comparing models: Adam's first steps have the size of the rate, whatever the gradient's, and so make much of a
last bit."""

SAME = 1e-4
"""Models of two STEADY runs that differ in nothing but who answered first are not further `apart`."""


@dataclass
class Process:
    """A `fedvox …` of its own, with everything it says in a file."""

    args: list[str]
    log: Path
    env: dict[str, str] = field(default_factory=dict)
    cwd: Path | None = None
    """Where the code is taken from; None: this checkout."""
    inside: Sequence[str] = ()
    """What has it run elsewhere, a network namespace for example."""

    def __post_init__(self) -> None:
        with self.log.open("ab") as output:
            self.popen = subprocess.Popen(
                [*self.inside, sys.executable, "-m", "app", *self.args],
                env={**os.environ, **self.env, **({"PYTHONPATH": str(self.cwd)} if self.cwd else {})},
                cwd=self.cwd,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def said(self) -> str:
        return self.log.read_text(errors="replace")

    def wait_for(self, pattern: str, seconds: float = 60.0) -> str:
        """Until it says so. Returns the line."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if found := re.search(f"^.*{pattern}.*$", self.said(), re.MULTILINE):
                return found[0]
            if self.popen.poll() is not None and not re.search(pattern, self.said()):
                break
            time.sleep(0.2)
        raise AssertionError(
            f"{' '.join(self.args)} did not say {pattern!r} in {seconds:.0f} s:\n{self.said()[-3000:]}"
        )

    def ended(self, seconds: float = 120.0) -> int:
        """Its exit code, once it ended by itself."""
        return self.popen.wait(timeout=seconds)

    def interrupt(self, seconds: float = 30.0) -> int:
        """As Ctrl-C and systemd do. Returns the exit code."""
        self.popen.send_signal(signal.SIGTERM)
        return self.popen.wait(timeout=seconds)

    def kill(self) -> None:
        """As the power cut does: this process, nothing else, no goodbye."""
        self.popen.kill()
        self.popen.wait()

    def family(self) -> list[psutil.Process]:
        """This process and all below it."""
        return tree(self.popen.pid)

    def clear(self) -> None:
        """End it and all that it started, whatever the test did."""
        if self.popen.poll() is None:
            family = self.family()
            self.popen.terminate()
            psutil.wait_procs(family, timeout=10)
            end(family, 1.0)
        self.popen.wait()


def alive(processes: list[psutil.Process], patience: float = 15.0) -> list[str]:
    """What is still running of these after a while, as command lines."""
    _, left = psutil.wait_procs(processes, timeout=patience)
    return [" ".join(process.cmdline()) for process in left if process.status() != psutil.STATUS_ZOMBIE]


def rounds(run_dir: Path) -> list[dict]:
    """The journal of a run, whole lines alone."""
    journal = run_dir / "rounds.jsonl"
    return [json.loads(line) for line in journal.read_text().splitlines()] if journal.exists() else []


def journalled(run_dir: Path, is_wanted: Callable[[dict], bool], seconds: float) -> dict:
    """Wait for such a round in the journal. Returns its line."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        for line in rounds(run_dir):
            if is_wanted(line):
                return line
        time.sleep(0.2)
    facts = [(line["round"], sorted(line["reports"]), line["refused"]) for line in rounds(run_dir)]
    raise AssertionError(f"no such round within {seconds:.0f} s; there are: {facts}")


def apart(one: Path, other: Path) -> float:
    """How far the models of two runs lie apart, relative to their size.

    Not zero: which hospital answers first decides the last bit of a sum. A round too many or too few is some percent.
    """
    first, second = (load_file(run_dir / "model.safetensors") for run_dir in (one, other))
    assert first.keys() == second.keys()
    flat_first, flat_second = (np.concatenate([m[name].ravel() for name in first]) for m in (first, second))
    return float(np.linalg.norm(flat_first - flat_second) / np.linalg.norm(flat_first))


def wait_for_round(run_dir: Path, round: int, seconds: float = 120.0) -> None:
    """Until a round is in the journal."""
    journalled(run_dir, lambda line: line["round"] >= round, seconds)
