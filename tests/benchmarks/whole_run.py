"""What a whole run of `experiment=lidc_vendors` costs: CPU seconds and memory of all its processes, from start to end.

In one process it stands beside FedAvg in plain torch; over Flower's runtime, beside an application of plain Flower
(`plain`). All train the same network on the same cubes of the same hospitals, in batches of 32, one thread each.
"""

import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from app import flower
from app.config import compose
from app.site.directory import open_site
from app.site.site import divide
from data.dataset import Crops
from tests.benchmarks import plain
from tests.benchmarks.plain import loop
from tests.benchmarks.processes import Usage, watched
from tests.benchmarks.row import Row, Target, at_most, compared, skipped

CUBES = Path(__file__).resolve().parents[3] / "shared" / "data" / "lidc-nodules" / "lidc_nodules_32.npz"
ROUNDS = 12
FOLD = 0
LONGEST_S = 300

TARGETS: Mapping[str, Target] = {"in one process": at_most(1.1), "over Flower": at_most(1.0)}


def rows(full: bool) -> Iterator[Row]:
    """CPU and memory, in one process and over Flower."""
    if not CUBES.exists():
        for name, target in TARGETS.items():
            yield skipped(f"whole run {name}", target, f"needs the real LIDC nodules, {CUBES.name} in ../shared/data")
        return
    with tempfile.TemporaryDirectory(prefix="fedvox-bench-") as temporary:
        jobs = Jobs(Path(temporary), ["experiment=lidc_vendors", f"source.path={CUBES}", f"split.fold={FOLD}"])
        jobs.write_split()
        yield from _compared("in one process", jobs.ours_in_process, jobs.plain_torch, 5 if full else 1)
        yield from _compared("over Flower", jobs.ours_over_flower, jobs.plain_flower, 4 if full else 1)


def _compared(name: str, ours: Callable[[], None], theirs: Callable[[], None], repeats: int) -> Iterator[Row]:
    used = _interleaved({"ours": ours, "reference": theirs}, repeats)
    wall = {who: statistics.median(usage.wall_s for usage in usages) for who, usages in used.items()}
    processes = {who: max(usage.peak_processes for usage in usages) for who, usages in used.items()}
    for what, unit in (("cpu_s", "s"), ("peak_mb", "MB")):
        values = {who: [getattr(usage, what) for usage in usages] for who, usages in used.items()}
        yield compared(
            f"whole run {name}, {'CPU time' if unit == 's' else 'peak memory'}",
            ours=statistics.median(values["ours"]),
            reference=statistics.median(values["reference"]),
            unit=unit,
            target=TARGETS[name],
            note=f"{ROUNDS} rounds on {CUBES.stem}; ours {_listed(values['ours'])}, reference "
            f"{_listed(values['reference'])} {unit}; wall {wall['ours']:.0f} and {wall['reference']:.0f} s; "
            f"{processes['ours']} and {processes['reference']} processes at the peak",
        )


def _interleaved(contenders: Mapping[str, Callable[[], None]], repeats: int) -> dict[str, list[Usage]]:
    used: dict[str, list[Usage]] = {name: [] for name in contenders}
    for repeat in range(repeats):
        for name in sorted(contenders, key=list(contenders).index, reverse=bool(repeat % 2)):
            with watched() as usage:
                contenders[name]()
            used[name].append(usage)
    return used


def _listed(values: list[float]) -> str:
    return ", ".join(f"{value:.3g}" for value in values)


@dataclass
class Jobs:
    """The four contenders, each in processes of its own."""

    folder: Path
    overrides: list[str]
    done: int = field(default=0)

    @property
    def split(self) -> Path:
        return self.folder / "split.json"

    def write_split(self) -> None:
        """Which rows of the archive each hospital trains on, validates and tests: the experiment's own."""
        config, found = compose(self.overrides), {}
        for name in config["federation"]["hospitals"]:
            parts = divide(open_site(config, name).crops(config), config["split"], fold=FOLD, seed=config["seed"])
            found[name] = {
                "train": _rows(parts.train),
                "validation": _rows(parts.validation),
                "test": _rows(parts.test),
            }
        self.split.write_text(json.dumps(found), encoding="utf-8")

    def ours_in_process(self) -> None:
        self._ours("inprocess")

    def ours_over_flower(self) -> None:
        self._ours("flower")

    def _ours(self, engine: str) -> None:
        self.done += 1
        where = ["--engine", engine, "--run-dir", str(self.folder / f"run{self.done}"), "--json"]
        _run([sys.executable, "-m", "app", "run", *self.overrides, f"rounds={ROUNDS}", *where])

    def plain_torch(self) -> None:
        _run([sys.executable, "-m", loop.__name__, str(CUBES), str(self.split), str(ROUNDS)])

    def plain_flower(self) -> None:
        """On a SuperLink that is started as ours is, with as many nodes and cores."""
        app, outcome = self._plain_app(), self.folder / "outcome"
        outcome.unlink(missing_ok=True)
        settings = {"cubes": CUBES, "split": self.split, "outcome": outcome}
        run_config = " ".join(f'{key}="{value}"' for key, value in settings.items()) + f" rounds={ROUNDS}"
        nodes = "num-supernodes=3 client-resources-num-cpus=1 client-resources-num-gpus=0.0"
        with flower.superlink() as link:
            command = ["flwr", "run", str(app), link.name, "--run-config", run_config, "--federation-config", nodes]
            _run([*command, "--stream"], env=dict(link.env), cwd=self.folder)
        if not outcome.exists():
            raise RuntimeError("plain Flower's run left no outcome")

    def _plain_app(self) -> Path:
        app, package = self.folder / "plain-flower", Path(plain.__file__).parent
        if not app.exists():
            shutil.copytree(package, app / "plain", ignore=shutil.ignore_patterns("__pycache__", "loop.py"))
            shutil.move(app / "plain" / "flower_app.toml", app / "pyproject.toml")
        return app


def _rows(crops: Crops) -> list[int]:
    """`Cubes` names each cube NAME#ROW."""
    return [int(ref.uid.rpartition("#")[2]) for ref in crops.scans]


def _run(command: list[str], *, env: Mapping[str, str] | None = None, cwd: Path | None = None) -> None:
    done = subprocess.run(command, env=env, cwd=cwd, capture_output=True, text=True, check=False, timeout=LONGEST_S)
    if done.returncode:
        raise RuntimeError(
            f"{' '.join(command[:4])} … ended with {done.returncode}: {(done.stdout + done.stderr)[-800:]}"
        )
