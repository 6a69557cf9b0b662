"""What the federation costs where nothing travels: three hospitals, five rounds, LocalGrid beside a bare loop."""

import itertools
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

from app.client_app import app
from app.config import Config, compose, to_line
from app.local_grid import LocalGrid
from app.rounds import folder as folders
from app.rounds.conduct import conduct
from tests.benchmarks import cubes
from tests.benchmarks.bare_loop import Bare, Tensors
from tests.benchmarks.clock import interleaved
from tests.benchmarks.row import Row, at_most, compared

HOSPITALS = {"GE": 300, "SIEMENS": 240, "PHILIPS": 180}
"""Cubes each has; six of ten train."""

ROUNDS = 5

SAME = 1e-5
"""Rounding alone, after one round. (AdamW makes 1e-2 of it in five: it divides by gradients near zero.)"""


def rows(full: bool) -> Iterator[Row]:
    """The run folder, the journal, a checkpoint each round and the summary are on our side, and on ours alone."""
    with tempfile.TemporaryDirectory(prefix="fedvox-bench-") as temporary:
        folder = Path(temporary)
        setting = cubes.overrides(cubes.write_noise(folder / "cubes.npz", HOSPITALS))
        difference = _difference([*setting, "rounds=1"], folder / "one-round")
        overrides, numbers = [*setting, f"rounds={ROUNDS}"], itertools.count()
        config = compose(overrides)
        contenders = {
            "ours": lambda: _federated(config, overrides, folder / f"run{next(numbers)}"),
            "bare": Bare.of(config).run,
        }
        took = interleaved(contenders, repeats=9 if full else 5)
    yield compared(
        "federation in process, wall time",
        ours=took["ours"].wall,
        reference=took["bare"].wall,
        unit="s",
        target=at_most(1.05),
        note=f"{len(HOSPITALS)} hospitals × {ROUNDS} rounds of resnet10 on {sum(HOSPITALS.values())} cubes of "
        f"{cubes.SIDE}³, medians of {len(took['ours'].times)}, ours {took['ours'].spread}; reference: the same fits "
        f"and scoring in a bare loop, whose model after one round is within {difference:.0e} of ours; "
        f"ratio of CPU times {took['ours'].cpu / took['bare'].cpu:.3f}",
    )


def _federated(config: Config, overrides: list[str], path: Path) -> Tensors:
    folder = folders.create(path, config, overrides)
    grid = LocalGrid(app, nodes=len(HOSPITALS), run_config={"overrides": to_line(overrides)})
    summary = conduct(grid, config, folder, engine="inprocess")
    if summary["status"] != "completed":
        raise RuntimeError(f"the run ended as {summary['status']}: {summary['stopped']}")
    return dict(load_file(folder.model("")))


def _difference(one_round: list[str], path: Path) -> float:
    """Largest difference of any parameter; also warms up both sides."""
    config = compose(one_round)
    ours, theirs = _federated(config, one_round, path), Bare.of(config).run()
    worst = max(float(np.abs(ours[name] - theirs[name]).max()) for name in theirs)
    if worst > SAME:
        raise RuntimeError(f"the bare loop does other work: its model is {worst:.1e} away from ours after a round")
    return worst
