"""`python -m tests.benchmarks [--full] [--only TOPIC …]`: measure, print the table, write bench.json."""

import argparse
import importlib
import importlib.util
import json
import os
import platform
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console
from rich.table import Table

from tests.benchmarks.row import Row, as_row

TOPICS = (
    "aggregation",
    "rules",
    "checkpoint",
    "engine",
    "samples",
    "ct_reading",
    "private_step",
    "in_process",
    "runtime",
    "whole_run",
    "training_on_gpu",
    "deployment",
)
"""Modules of this package, quick ones first."""

ROOT = Path(__file__).resolve().parents[2]

ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
"""Contenders get one thread each. Read when numpy and torch are first imported, so topics are imported later."""

TOLD_FRAMES = -4
"""Of a topic that failed: the innermost ones."""


def main(arguments: Sequence[str]) -> int:
    """Exit code 0 whether or not targets are met (a busy machine is no error), 1 where a topic could not run."""
    args = _parsed(arguments)
    os.environ.update(dict.fromkeys(ONE_THREAD, "1"))
    screen, found, failures = Console(), [], 0
    with tempfile.TemporaryDirectory(prefix="fedvox-bench-") as home:
        os.environ["FEDVOX_HOME"] = home
        for topic in args.only or _present():
            screen.print(f"measuring {topic} …")
            try:
                for row in _measured(topic, full=args.full):
                    found.append(row)
                    screen.print(f"  {row.name}: {_cells(row)[2]} ({row.target}) {row.verdict}")
            except Exception:  # noqa: BLE001  # the other topics still count
                traceback.print_exc(limit=TOLD_FRAMES)
                failures += 1
    _print(found, screen)
    args.json.write_text(json.dumps(_report(found), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    screen.print(f"written to {args.json}")
    return 1 if failures else 0


def _parsed(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=sys.modules[__name__].__doc__)
    parser.add_argument("--full", action="store_true", help="more repeats and larger sizes; takes an hour")
    parser.add_argument("--only", nargs="+", choices=_present(), metavar="TOPIC", help=", ".join(_present()))
    parser.add_argument("--json", type=Path, default=ROOT / "bench.json", help="where the rows are written")
    return parser.parse_args(arguments)


def _present() -> list[str]:
    return [topic for topic in TOPICS if importlib.util.find_spec(f"{__package__}.{topic}")]


def _measured(topic: str, *, full: bool) -> Iterator[Row]:
    module = importlib.import_module(f"{__package__}.{topic}")
    command = f".venv/bin/python -m tests.benchmarks --only {topic}{' --full' if full else ''}"
    for row in module.rows(full):
        yield as_row(row, command)


def _cells(row: Row) -> tuple[str, str, str]:
    numbers = (row.ours, row.reference, row.ratio)
    ours, reference, ratio = ("–" if number is None else f"{number:.3g}" for number in numbers)
    return f"{ours} {row.unit}".strip(), f"{reference} {row.unit}".strip(), ratio


def _print(found: Sequence[Row], screen: Console) -> None:
    table = Table(box=None, pad_edge=False)
    for title in ("what", "ours", "reference", "ratio", "target", ""):
        table.add_column(title, overflow="fold")
    for row in found:
        table.add_row(row.name, *_cells(row), row.target, row.verdict)
    screen.print(table)
    for row in found:
        screen.print(f"[dim]{row.name}: {row.note}[/dim]", highlight=False)


def _report(found: Sequence[Row]) -> dict[str, Any]:
    machine = {
        "cores": os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "load_average": os.getloadavg(),
        "python": platform.python_version(),
        "platform": platform.platform(),
    }
    return {
        "machine": machine,
        "when": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "rows": list(map(asdict, found)),
    }


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
