"""`fedvox sweep`: a grid of runs in one process, ranked. Each run has its folder; a sweep resumes where it stopped."""

import argparse
import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from app.commands.launch import Job
    from app.config import Point

EPILOG = """\
examples:
  fedvox sweep experiment=demo training.lr=0.001,0.003 strategy/weighting=size,quality
  fedvox sweep --sweep weightings experiment=demo
  fedvox sweep --sweep algorithms,yardsticks --sweep-dir DIR experiment=demo
"""


def add_parser(verbs: Any) -> None:
    """Add `sweep` to the verbs."""
    parser = verbs.add_parser(
        "sweep",
        help="run a grid of settings and rank them",
        description="A grid of runs, one after the other in this process. Values between commas are tried in turn; "
        "`optimise` names the figure of summary.json to rank by (higher is better). A point whose settings are "
        "refused, since parts do not fit together or not so many hospitals, or a value is out of range, is passed "
        "over with the reason; one that fails is ranked last.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("overrides", nargs="*", metavar="KEY=V1,V2", help="settings, as in conf/")
    parser.add_argument(
        "--sweep", metavar="NAME[,NAME]", help="grids by name: conf/sweep/NAME.yaml, one after the other"
    )
    parser.add_argument(
        "--sweep-dir",
        type=Path,
        metavar="DIR",
        help="where its runs go, and where a stopped sweep goes on (default: FEDVOX_HOME/sweeps/HASH)",
    )
    parser.add_argument("--json", action="store_true", help="print the ranking as JSON")
    parser.set_defaults(run=run)  # fmt: skip


@dataclass(frozen=True)
class Trial:
    """One point of the grid, done."""

    varied: Mapping[str, str]
    value: float | None
    status: str
    folder: str
    """Empty where nothing was run."""


def run(args: argparse.Namespace) -> int:
    """Run what is not done yet, then print and write the ranking."""
    import json
    import sys

    from app import config as configuration
    from app.commands import console

    named = [configuration.sweep_overrides(name) for name in args.sweep.split(",")] if args.sweep else [[]]
    given = [[*overrides, *args.overrides] for overrides in named]
    grid = [point for overrides in given for point in configuration.grid(overrides)]
    _check_composes(grid)
    folder = (args.sweep_dir or _default_folder(given)).expanduser().absolute()
    screen = console.Console(file=sys.stderr if args.json else sys.stdout)
    screen.note(f"{len(grid)} runs in {folder}")
    trials = ranked(_trials(grid, folder, screen))
    write_ranking(folder, trials)
    print(json.dumps(_plain(trials), indent=2)) if args.json else screen.show(table(trials))
    for text in _costs(trials):
        screen.note(text)
    screen.note(f"ranking: {folder / 'ranking.csv'}")
    return _exit_code(trials)


def _exit_code(trials: Sequence[Trial]) -> int:
    """0 where something was ranked, 2 where the settings of every point were refused, else 1."""
    if any(trial.value is not None for trial in trials):
        return 0
    return 2 if all(trial.status == MISFIT for trial in trials) else 1


def _check_composes(grid: "Sequence[Point]") -> None:
    """Raise ConfigError where not one point can be composed: a setting that does not exist, say, is wrong for all."""
    from app.config import ConfigError, compose

    first: ConfigError | None = None
    for point in grid:
        try:
            compose(point.overrides)
        except ConfigError as error:
            first = first or error
        else:
            return
    if first is not None:
        raise first


def metric(summary: Mapping[str, Any], path: str) -> float | None:
    """The figure of summary.json at a dotted path.

    Raises:
        ConfigError: there is no such figure.
    """
    from app.config import ConfigError

    node: Any = summary
    for step in path.split("."):
        if not isinstance(node, Mapping) or step not in node:
            raise ConfigError(f"optimise={path}: summary.json has no such figure; pooled.auc is one")
        node = node[step]
    return None if node is None else float(node)


def ranked(trials: Sequence[Trial]) -> list[Trial]:
    """Best first; trials without a value last."""
    return sorted(trials, key=lambda trial: (trial.value is None, -(trial.value or 0.0)))


def write_ranking(folder: Path, trials: Sequence[Trial]) -> None:
    """ranking.csv and ranking.json, best first."""
    from app.files import write_json, write_text

    folder.mkdir(parents=True, exist_ok=True)  # no trial made it where none was begun
    rows = _plain(trials)
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(folder / "ranking.csv", text.getvalue())
    write_json(folder / "ranking.json", rows)


def _trials(grid: "Sequence[Point]", folder: Path, screen: Any) -> list[Trial]:
    """Every trial, in the grid's order; none after one that no hospital had budget for."""
    from app.site import place

    done: list[Trial] = []
    for number, point in enumerate(grid, 1):
        done.append(_trial(point, folder, number, len(grid), screen))
        place.forget()  # what no other trial asks for would stay in memory
        if done[-1].status == OVER_BUDGET:
            screen.note(f"stopped: no hospital has budget left for trial {number}; {len(grid) - number} were not begun")
            break
    return done


OVER_BUDGET = "over budget"
MISFIT = "does not fit"
FAILED = "failed"


def _costs(trials: Sequence[Trial]) -> list[str]:
    """ε of the whole sweep: the best trial was chosen by looking at all of them."""
    from app.config import compose
    from app.privacy.together import together
    from app.rounds.folder import opened

    folders = [opened(Path(trial.folder)) for trial in trials if trial.folder]
    paid = together([(compose(folder.overrides()), folder) for folder in folders])
    return [one.sentence(len(folders)) for one in paid]


def _trial(point: "Point", folder: Path, number: int, of: int, screen: Any) -> Trial:
    from app.commands import launch
    from app.commands.errors import RunFailed
    from app.config import ConfigError
    from data.errors import DataError
    from models.weights import WeightsError
    from strategies.errors import StrategyError

    path = folder / point.name()
    screen.note(f"[{number}/{of}] {point.name()}")
    is_begun = (path / "overrides.txt").exists()
    try:
        job = launch.fresh_or_stopped(path, list(point.overrides))
    except (ConfigError, DataError, StrategyError, WeightsError) as error:
        if is_begun:  # by other code, say: it has its result, which is not to be ranked as none
            raise
        screen.note(f"passed over: {error}")
        return Trial(point.varied, None, FAILED if isinstance(error, DataError) else MISFIT, "")
    try:
        summary = _summary(job, screen)
    except (RunFailed, ConfigError, DataError, StrategyError) as error:
        screen.note(str(error))
        return Trial(point.varied, None, _failure(path), str(path))
    return Trial(point.varied, metric(summary, job.config["optimise"]), summary["status"], str(path))


def _summary(job: "Job", screen: Any) -> dict[str, Any]:
    """Of the run as it stands where it has ended, else of the run that is made now."""
    from app.commands import launch
    from app.rounds.summary import read_summary

    summary = read_summary(job.folder)
    if summary is None or summary["status"] == "failed" or summary["stopped"] == "interrupted":
        summary = launch.start(job, engine="inprocess", superlink=None, screen=screen)
    return summary


def _failure(path: Path) -> str:
    from app.privacy.together import is_out_of_budget
    from app.rounds.folder import opened
    from app.rounds.summary import read_summary

    summary = read_summary(opened(path))
    return OVER_BUDGET if summary is not None and is_out_of_budget(summary) else FAILED


def _default_folder(grids: Sequence[Sequence[str]]) -> Path:
    """The same for the same grid, from the same place (paths may be relative), by the same code."""
    import hashlib

    from app.fingerprint import code_hash
    from app.home import home

    told = "\0\0".join([str(Path.cwd()), code_hash(), *("\0".join(given) for given in grids)])
    return home() / "sweeps" / hashlib.sha256(told.encode()).hexdigest()[:12]


def _plain(trials: Sequence[Trial]) -> list[dict[str, Any]]:
    """One row a trial; what another grid varies is empty."""
    keys = dict.fromkeys(key for trial in trials for key in trial.varied)
    return [
        {
            "rank": rank,
            "value": trial.value,
            **{key: trial.varied.get(key, "") for key in keys},
            "status": trial.status,
            "folder": trial.folder,
        }
        for rank, trial in enumerate(trials, 1)
    ]


def table(trials: Sequence[Trial]) -> Any:
    """The ranking as a table for a terminal."""
    from rich.table import Table

    made = Table(box=None, pad_edge=False)
    rows = _plain(trials)
    for name in rows[0]:
        if name != "folder":
            made.add_column(name, justify="right" if name in ("rank", "value") else "left")
    for row in rows:
        made.add_row(*(_cell(value) for name, value in row.items() if name != "folder"))
    return made


def _cell(value: Any) -> str:
    return "–" if value is None else f"{value:.4f}" if isinstance(value, float) else str(value)
