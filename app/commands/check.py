"""`fedvox data check`: every finding of a hospital's data, a line each, its statistics, and a sheet to look at."""

import argparse
import json
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.progress import TaskID
    from rich.table import Table

    from app.commands.console import Console
    from data.check import Checked
    from data.sources import Source

EPILOG = """\
Findings are lines `LEVEL code what — remedy`: REFUSED (training does not begin with it; exit code 1), WARNING (left
out, or strange), NOTE. They may name files and series: they are for the hospital's own eyes.

examples:
  fedvox data check north/site.yaml --sheet north.png
  fedvox data check /data/export --headers-only
  fedvox data check site.yaml preprocess=ct64 --json
"""

LISTED = 40
"""Usable stacks are listed one by one up to so many; more are only counted."""


def add_action(actions: Any) -> None:
    """Add `check` to what `fedvox data` can do."""
    parser = actions.add_parser(
        "check",
        help="look at a hospital's data before anybody trains on it",
        description="Read headers and labels, then every scan; name what is wrong, measure the rest as a run would.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("site", type=Path, metavar="SITE.yaml", help="a hospital's file; or a folder of DICOM")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="settings of `preprocess` and `comparison`")
    parser.add_argument("--headers-only", action="store_true", help="read no pixels: 10,000 slices in seconds")
    parser.add_argument("--sheet", type=Path, metavar="FILE.png", help="draw scans and crops, with their labels")
    parser.add_argument("--json", action="store_true", help="print everything as one JSON object")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Look, print, draw. 1 where something is refused."""
    from app.commands.console import Console
    from app.config import ConfigError, build, compose
    from data.check import Rules, check_source

    if args.sheet and args.headers_only:
        raise ConfigError("--sheet needs pixels; leave --headers-only out")
    config = compose(args.overrides)
    limits, sampling = (build(config["comparison"][part]) for part in ("limits", "sampling"))
    rules = Rules(build(config["preprocess"]), limits, sampling)
    source = source_of(args.site.expanduser())
    # What the source leaves out is told below, with its remedy.
    logging.getLogger("data").setLevel(logging.ERROR)
    screen = Console(file=sys.stderr if args.json else sys.stdout)
    with Bars(quiet=args.json) as progress:
        checked = check_source(source, rules, headers_only=args.headers_only, progress=progress)
    print(json.dumps(_plain(checked), indent=2)) if args.json else _show(checked, screen)
    if args.sheet and checked.source is not None:
        _draw(checked, rules.preprocess, args.sheet, screen)
    return 1 if checked.is_refused else 0


def source_of(path: Path) -> "Source":
    """A hospital's own source; or a folder's series, with its labels.csv where there is one."""
    from app.config import build
    from app.site.site_file import read_site_file
    from data.sources import DicomFolder

    if not path.is_dir():
        source: Source = build(read_site_file(path).source)
        return source
    return DicomFolder(str(path), labels="labels.csv" if (path / "labels.csv").is_file() else None)


def _draw(checked: "Checked", preprocess: Any, file: Path, screen: "Console") -> None:
    from app.files import replacing
    from data.check.sheet import contact_sheet

    assert checked.source is not None  # noqa: S101 — asked by the caller
    sheet = contact_sheet(checked.source, preprocess)
    with replacing(file.expanduser().absolute()) as png:
        sheet.save(png, format="PNG")
    screen.note(f"sheet: {file}")


# --- what is shown ---


def _show(checked: "Checked", screen: "Console") -> None:
    usable = [finding for finding in checked.findings if finding.code == "usable"]
    for finding in checked.findings:
        if finding.code != "usable" or len(usable) <= LISTED:
            screen.note(finding.line)
    screen.show(_table(checked))
    levels = [finding.level for finding in checked.findings]
    counted = ", ".join(f"{levels.count(level)} {level}" for level in dict.fromkeys(levels))
    screen.note(f"{'refused' if checked.is_refused else 'nothing is refused'}: {counted or 'no finding'}")


def _table(checked: "Checked") -> "Table":
    from rich.table import Table

    made = Table(box=None, pad_edge=False, show_header=False)
    made.add_column(no_wrap=True)
    made.add_column()
    for name, value in _rows(checked):
        made.add_row(name, value)
    return made


def _rows(checked: "Checked") -> list[tuple[str, str]]:
    summary = checked.summary
    sound = sum(stack.error is None for stack in checked.stacks)
    stacks = f"{len(checked.stacks)}, {sound} of them usable by their headers"
    rows = [
        *([("stacks of slices", stacks)] if checked.stacks else []),
        ("scans", f"{summary.scans} of {summary.patients} patients, {summary.labelled_scans} labelled"),
        ("labels", f"{summary.labels['positive']} positive, {summary.labels['negative']} negative"),
        ("scanners", ", ".join(f"{name} {count}" for name, count in summary.scanners.items()) or "–"),
        *((f"{what}, mm", f"{low:.3g} to {high:.3g}") for what, (low, high) in summary.spacing_mm.items()),
    ]
    return [*rows, *_measured(checked)]


def _measured(checked: "Checked") -> list[tuple[str, str]]:
    """The numbers that a run compares: median, and 10th to 90th percentile where scans or crops have each their own."""
    from data.statistics.quantities import QUANTITIES

    if checked.statistics is None:
        return []
    numbers, rows = checked.statistics.numbers, []
    for name, quantity in QUANTITIES.items():
        if name in numbers:
            ends = dict.fromkeys(f"{numbers[name + end]:.4g}" for end in ("_low", "_high") if name + end in numbers)
            spread = f" ({' to '.join(ends)})" if len(ends) > 1 else ""
            rows.append((quantity.words, f"{numbers[name]:.4g}{spread} {quantity.unit}".strip()))
    return rows


def _plain(checked: "Checked") -> dict[str, Any]:
    return {
        "refused": checked.is_refused,
        "findings": [
            {"level": str(f.level), "code": f.code, "what": f.what, "remedy": f.remedy} for f in checked.findings
        ],
        "summary": checked.summary.plain(),
        "statistics": None if checked.statistics is None else checked.statistics.plain(),
    }


# --- progress ---


class Bars:
    """A bar on a terminal, nothing elsewhere: lines of progress would stand among the findings."""

    def __init__(self, *, quiet: bool) -> None:
        from rich.progress import Progress

        self._bars: Progress = Progress(transient=True, disable=quiet or not sys.stdout.isatty())
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> Callable[[str, int, int], None]:
        self._bars.start()
        return self._tell

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def _tell(self, what: str, done: int, of: int) -> None:
        if what not in self._tasks:
            self._tasks[what] = self._bars.add_task(what, total=of)
        self._bars.update(self._tasks[what], completed=done, total=of)
