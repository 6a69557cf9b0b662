"""`fedvox run`: one federated run, over Flower's runtime or in this process."""

import argparse
import sys
from pathlib import Path
from typing import Any

EPILOG = """\
examples:
  fedvox run experiment=demo
  fedvox run rounds=5 training.lr=0.01 strategy/weighting=quality
  fedvox run source=luna16 source.path=/data/luna16 experiment=luna16_three_hospitals
  fedvox run --resume ~/.fedvox/runs/20260101-120000-demo
"""


def add_parser(verbs: Any) -> None:
    """Add `run` to the verbs."""
    parser = verbs.add_parser(
        "run",
        help="train one model over several hospitals",
        description="One federated run. KEY=VALUE are Hydra overrides of conf/config.yaml.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="settings, as in conf/")
    parser.add_argument(
        "--run-dir", type=Path, metavar="DIR", help="the run folder (default: a new one in FEDVOX_HOME/runs)"
    )
    parser.add_argument(
        "--engine",
        choices=("flower", "inprocess"),
        default="flower",
        help="flower: Flower's runtime, hospitals in parallel (default); inprocess: one after the other, no Ray",
    )
    parser.add_argument(
        "--superlink",
        metavar="DIR",
        help="a coordinator's folder (or a SuperLink of Flower's configuration), instead of a simulation",
    )
    parser.add_argument("--resume", type=Path, metavar="RUN_DIR", help="continue a run from its last checkpoint")
    parser.add_argument("--show", action="store_true", help="print the whole configuration and train nothing")
    parser.add_argument("--json", action="store_true", help="print summary.json instead of the table")
    parser.set_defaults(run=run)  # fmt: skip


def run(args: argparse.Namespace) -> int:
    """Run, and print the table."""
    from app import config as configuration

    if args.show:
        print(configuration.to_yaml(configuration.compose(_overrides(args))), end="")
        return 0
    from app.commands import console, launch

    screen = console.Console(file=sys.stderr if args.json else sys.stdout)
    overrides = _overrides(args)
    if args.resume:
        job = launch.resumed(args.resume, overrides)
    else:
        job = launch.fresh(_run_dir(args), overrides, aside=args.engine == "flower")
    summary = launch.start(job, engine=args.engine, superlink=args.superlink, screen=screen)
    screen.outcome(summary, job.folder.path, as_json=args.json)
    return 0 if summary["status"] in ("completed", "stopped") else 1


def _overrides(args: argparse.Namespace) -> list[str]:
    """As given; at a coordinator, with its enrolled hospitals. A resumed run knows its own."""
    given: list[str] = args.overrides
    if not _is_deployed(args) or (args.resume and not given):
        return given
    from app.commands.deployed import deployed

    return deployed(args.superlink, given)


def _run_dir(args: argparse.Namespace) -> Path | None:
    """At a coordinator, in its own folder, where its processes may write."""
    if args.run_dir or not _is_deployed(args):
        given: Path | None = args.run_dir
        return given
    from app.commands.launch import default_folder
    from app.deploy.coordinator import open_coordinator

    return open_coordinator(Path(args.superlink)).runs / default_folder(args.overrides).name


def _is_deployed(args: argparse.Namespace) -> bool:
    from app.deploy.coordinator import is_coordinator

    return bool(args.superlink) and is_coordinator(args.superlink)
