"""Runs side by side, from their folders: one row an algorithm, mean ± standard deviation over its seeds.

Runs of several experiments make a table each: what was trained on other data is no comparison.

Columns: AUC over the test patients of all hospitals; AUC at the hospital where it is lowest; rounds until the pooled
validation AUC reached `SHARE` of what central training reaches on the test; bytes sent and received by all hospitals.
A figure that a run does not have is left out of its mean, and how many runs it rests on is said.

The remark says where no gain over training alone is proven, or a loss is. It looks at AUCs within hospitals: models of
different hospitals, pooled, also score by knowing where a patient comes from, the more so the more labels differ.
"""

import json
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from app.config import from_line
from app.rounds.folder import RunFolder

SHARE = 0.9
"""Of central training's AUC."""

YARDSTICKS = ("central", "local_only")
FIGURES = ("pooled", "worst", "rounds", "megabytes")
HEAD = ("runs", "pooled AUC", "worst hospital's AUC", "rounds to 0.9 of central", "MB", "remark")

DOUBT = 2.0
"""Standard errors that the mean gain over training alone, seed by seed, must have to be believed."""


@dataclass(frozen=True)
class Finished:
    """What one run's folder says."""

    overrides: Mapping[str, str]
    mode: str
    seed: int
    pooled: float | None
    worst: float | None
    """AUC at the hospital where it is lowest."""
    within: float | None
    """Mean of the hospitals' AUCs."""
    curves: tuple[tuple[float | None, ...], ...]
    """Validation AUC by round, for each of the run's models; value r scores the model after r rounds."""
    megabytes: float

    @property
    def experiment(self) -> str:
        """The experiments that were named, without those that make a yardstick of them."""
        named = self.overrides.get("experiment", "").strip("[]").split(",")
        return ",".join(name for name in named if name not in YARDSTICKS)

    def rounds_to(self, target: float) -> float | None:
        """Rounds until the target is reached, on average over the run's models; None where one does not reach it."""
        reached = [_first(curve, target) for curve in self.curves]
        return statistics.mean(reached) if reached and all(map(math.isfinite, reached)) else None


@dataclass(frozen=True)
class Figure:
    """Mean and sample standard deviation of `count` values; None where there are too few for it."""

    mean: float | None
    sd: float | None
    count: int

    @classmethod
    def of(cls, values: Iterable[float | None]) -> "Figure":
        known = [value for value in values if value is not None]
        mean = statistics.mean(known) if known else None
        return cls(mean, statistics.stdev(known) if len(known) > 1 else None, len(known))


@dataclass(frozen=True)
class Row:
    """One algorithm."""

    experiment: str
    name: str
    runs: int
    figures: Mapping[str, Figure]
    remark: str = ""
    """Where it does badly, in a word."""


def finished(folder: Path) -> list[Finished]:
    """Every run below `folder` that came to its end; others are passed over."""
    summaries = (path for path in sorted(folder.rglob("summary.json")) if (path.parent / "overrides.txt").exists())
    made = (_finished(path.parent, json.loads(path.read_text(encoding="utf-8"))) for path in summaries)
    return [run for run in made if run is not None]


def tables(runs: Sequence[Finished]) -> list[list[Row]]:
    """One table an experiment, in the order of their names."""
    names = sorted({run.experiment for run in runs})
    return [rows([run for run in runs if run.experiment == name]) for name in names]


def rows(runs: Sequence[Finished]) -> list[Row]:
    """One experiment's table: one row an algorithm, the best pooled AUC first, the yardsticks before all."""
    varied = _varied(runs)
    groups: dict[str, list[Finished]] = {}
    for run in runs:
        groups.setdefault(_name(run, varied), []).append(run)
    central = {run.seed: run.pooled for run in runs if run.mode == "central" and run.pooled is not None}
    alone = {run.seed: run.within for run in runs if run.mode == "local_only" and run.within is not None}
    made = [_row(name, group, central, alone) for name, group in groups.items()]
    return sorted(made, key=lambda row: (_rank(row.name), -(row.figures["pooled"].mean or 0.0)))


def markdown(table: Sequence[Row]) -> str:
    """One experiment's table as Markdown."""
    head = " | ".join((table[0].experiment or "algorithm", *HEAD))
    lines = [f"| {row.name} | {' | '.join(cells(row))} |" for row in table]
    return "\n".join([f"| {head} |", "|---|---:|---:|---:|---:|---:|---|", *lines])


def cells(row: Row) -> list[str]:
    """The cells after the name: mean ± sd, and of how many runs where not of all."""
    digits = {"pooled": 3, "worst": 3, "rounds": 1, "megabytes": 1}
    return [str(row.runs), *(_cell(row.figures[name], digits[name], row.runs) for name in FIGURES), row.remark]


def _finished(folder: Path, summary: Mapping[str, Any]) -> Finished | None:
    if summary["status"] == "failed" or summary["stopped"] == "interrupted":
        return None
    run = RunFolder(folder)
    config = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
    hospitals = summary["hospitals"].values()
    aucs = [row["auc"] for row in hospitals if row["auc"] is not None]
    return Finished(
        overrides=_overrides(folder),
        mode=config["federation"]["mode"],
        seed=summary["seed"],
        pooled=summary["pooled"]["auc"],
        worst=min(aucs) if aucs else None,
        within=statistics.mean(aucs) if aucs else None,
        curves=_curves(run.lines()),
        megabytes=sum(row["bytes_up"] + row["bytes_down"] for row in hospitals) / 1e6,
    )


def _overrides(folder: Path) -> dict[str, str]:
    given = from_line((folder / "overrides.txt").read_text(encoding="utf-8"))
    return dict(text.partition("=")[::2] for text in given)


def _curves(lines: Sequence[Mapping[str, Any]]) -> tuple[tuple[float | None, ...], ...]:
    legs: dict[str, list[float | None]] = {}
    for line in lines:
        legs.setdefault(line["leg"], []).append(line["validation_auc"])
    return tuple(tuple(values) for values in legs.values())


def _first(curve: Sequence[float | None], target: float) -> float:
    return next((r for r, value in enumerate(curve) if value is not None and value >= target), math.inf)


def _varied(runs: Sequence[Finished]) -> list[str]:
    """Settings in which the federated runs differ, but for the seed."""
    compared = [run.overrides for run in runs if run.mode not in YARDSTICKS]
    keys = dict.fromkeys(key for overrides in compared for key in overrides)
    return [key for key in keys if key != "seed" and len({overrides.get(key) for overrides in compared}) > 1]


def _name(run: Finished, varied: Sequence[str]) -> str:
    if run.mode in YARDSTICKS:
        return run.mode
    values = [run.overrides.get(key, f"no {key}") for key in varied]
    return ", ".join(values) or "federated"


def _row(name: str, group: Sequence[Finished], central: Mapping[int, float], alone: Mapping[int, float]) -> Row:
    figures = {
        "pooled": Figure.of(run.pooled for run in group),
        "worst": Figure.of(run.worst for run in group),
        "rounds": Figure.of(run.rounds_to(SHARE * central[run.seed]) for run in group if run.seed in central),
        "megabytes": Figure.of(run.megabytes for run in group),
    }
    return Row(group[0].experiment, name, len(group), figures, "" if name in YARDSTICKS else _remark(group, alone))


def _remark(group: Sequence[Finished], alone: Mapping[int, float]) -> str:
    """Whether it was worth federating at all."""
    gains = [run.within - alone[run.seed] for run in group if run.within is not None and run.seed in alone]
    if len(gains) < 2:
        return ""
    mean, error = statistics.mean(gains), statistics.stdev(gains) / math.sqrt(len(gains))
    if mean + DOUBT * error < 0:
        return "alone is better"
    return "" if mean > DOUBT * error else "no proven gain"


def _rank(name: str) -> int:
    return YARDSTICKS.index(name) if name in YARDSTICKS else len(YARDSTICKS)


def _cell(figure: Figure, digits: int, runs: int) -> str:
    if figure.mean is None:
        return "–"
    text = f"{figure.mean:.{digits}f}"
    text += f" ± {figure.sd:.{digits}f}" if figure.sd is not None else ""
    return text if figure.count == runs else f"{text} ({figure.count} of {runs})"
