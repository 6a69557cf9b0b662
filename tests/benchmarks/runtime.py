"""What Flower's runtime costs per round, where a hospital trains for ten seconds.

Ours is `fedvox run` over Flower's simulation (Ray): two hospitals side by side, a process and a core each. The
reference is two plain processes side by side that do the same fits and the same scoring, round after round, and wait
for each other at the end of each.
"""

import contextlib
import itertools
import json
import multiprocessing
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path

from app.config import compose
from models.parameters import get_tensors
from tests.benchmarks import cubes
from tests.benchmarks.bare_loop import Bare
from tests.benchmarks.row import Row, at_most, compared

HOSPITALS = {"GE": 400, "SIEMENS": 400}
"""Cubes each has; six of ten train."""

ROUND_S = 10.0
"""Local training of a round."""

ROUNDS = 3
"""The first is not counted: Ray starts its actors in it, and they import torch."""

POLL_S = 0.02
LONGEST_S = 400.0


def rows(full: bool) -> Iterator[Row]:
    """Runs and reference take turns."""
    with tempfile.TemporaryDirectory(prefix="fedvox-bench-") as temporary:
        folder = Path(temporary)
        setting = [
            *cubes.overrides(cubes.write_noise(folder / "cubes.npz", HOSPITALS)),
            "~federation.hospitals.PHILIPS",
            f"rounds={ROUNDS}",
        ]
        with _side_by_side(setting) as pair:
            pair.round(1)  # a first pass is slower than those to come
            epochs = max(1, round(ROUND_S / pair.round(2)))
        times = Times()
        for turn in range(4 if full else 2):
            _take_turns(turn, [*setting, f"training.epochs={epochs}"], folder / f"run{turn}", times)
    yield compared(
        "Flower's runtime, per round after the first",
        ours=statistics.median(times.ours),
        reference=statistics.median(times.reference),
        unit="s",
        target=at_most(1.15),
        note=_note(epochs, times),
    )


def _note(epochs: int, times: "Times") -> str:
    return (
        f"fedvox run, {len(HOSPITALS)} hospitals at once, {epochs} local epochs; from journal line to journal line "
        f"{_listed(times.ours)} s; reference: the same work in {len(HOSPITALS)} processes side by side "
        f"{_listed(times.reference)} s; within our runs, a round against its slowest hospital's own work: "
        f"{statistics.median(times.within):.3f}"
    )


@dataclass
class Times:
    """Seconds of rounds after the first."""

    ours: list[float] = field(default_factory=list)
    within: list[float] = field(default_factory=list)
    """Our rounds, each as a multiple of the local work of its slowest hospital."""
    reference: list[float] = field(default_factory=list)


def _take_turns(turn: int, overrides: Sequence[str], path: Path, times: Times) -> None:
    """A run and a reference; which goes first alternates."""
    if turn % 2 == 0:
        _run(overrides, path, times)
    with _side_by_side(overrides) as pair:
        times.reference += [pair.round(number) for number in range(1, ROUNDS + 1)][1:]
    if turn % 2 == 1:
        _run(overrides, path, times)


def _listed(times: Sequence[float]) -> str:
    return ", ".join(f"{seconds:.1f}" for seconds in times)


# --- ours ---


def _run(overrides: Sequence[str], path: Path, times: Times) -> None:
    command = [sys.executable, "-m", "app", "run", *overrides, "--run-dir", str(path), "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    arrivals = _arrivals(process, path / "rounds.jsonl")
    out, err = process.communicate()
    if process.returncode or len(arrivals) != ROUNDS:
        raise RuntimeError(
            f"fedvox run ended with {process.returncode} after {len(arrivals)} rounds: {(out + err)[-500:]}"
        )
    lines = [json.loads(line) for line in (path / "rounds.jsonl").read_text(encoding="utf-8").splitlines()]
    rounds = [after - before for before, after in itertools.pairwise(arrivals)]
    times.ours += rounds
    slowest = (max(report["seconds"] for report in line["reports"].values()) for line in lines[1:])
    times.within += [seconds / local for seconds, local in zip(rounds, slowest, strict=True)]


def _arrivals(process: "subprocess.Popen[str]", journal: Path) -> list[float]:
    """When each line of the journal appeared."""
    arrivals: list[float] = []
    began = time.monotonic()
    while process.poll() is None and len(arrivals) < ROUNDS:
        with contextlib.suppress(FileNotFoundError):
            lines = journal.read_bytes().count(b"\n")
            arrivals += [time.monotonic()] * (lines - len(arrivals))
        if time.monotonic() - began > LONGEST_S:
            process.terminate()
        time.sleep(POLL_S)
    return arrivals


# --- reference ---


@dataclass(frozen=True)
class Pair:
    """Processes that wait for a round number, do that round's work, and say so."""

    doors: Sequence[Connection]

    def round(self, number: int) -> float:
        """Seconds until all have done their round."""
        began = time.perf_counter()
        for door in self.doors:
            door.send(number)
        for door in self.doors:
            door.recv()
        return time.perf_counter() - began


@contextlib.contextmanager
def _side_by_side(overrides: Sequence[str]) -> Iterator[Pair]:
    """A process a hospital, opened."""
    context = multiprocessing.get_context("spawn")
    doors, processes = [], []
    for name in HOSPITALS:
        ours, theirs = context.Pipe()
        processes.append(context.Process(target=_hospital, args=(list(overrides), name, theirs), daemon=True))
        doors.append(ours)
    for process in processes:
        process.start()
    try:
        for door in doors:
            door.recv()
        yield Pair(doors)
    finally:
        for door in doors:
            door.send(0)
        for process in processes:
            process.join(LONGEST_S)


def _hospital(overrides: list[str], name: str, door: Connection) -> None:
    bare = Bare.of(compose(overrides))
    current = get_tensors(bare.model)
    door.send("ready")
    while number := door.recv():
        bare.visit(name, current, number)
        door.send(number)
