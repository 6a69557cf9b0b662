"""`fedvox budget`: what a hospital's patients have paid, and whether its ledger is as it was written."""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from app.site.site_file import SiteFile
    from strategies.privacy.chain import Anchor
    from strategies.privacy.ledger import Ledger

EPILOG = """\
examples:
  fedvox budget show hospitals/A/site.yaml
  fedvox budget verify hospitals/A/site.yaml --remembers ~/.fedvox/runs/20260101-120000-private_demo
"""

ALONE = (
    "whether ledger and anchor are older copies of both, only others can tell: name a run folder of the coordinator "
    "with --remembers"
)
"""Said where the ledger was compared with nothing that is kept elsewhere."""


def add_parser(verbs: Any) -> None:
    """Add `budget` and what it can do to the verbs."""
    parser = verbs.add_parser(
        "budget",
        help="what a hospital's patients have paid, and whether the ledger is intact",
        description="The ledger of one hospital: all runs, sweeps and evaluations together.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    show = actions.add_parser("show", help="what was spent, by which run; what is left")
    verify = actions.add_parser("verify", help="name every line that was edited, removed, moved or cut")
    for action, run in ((show, run_show), (verify, run_verify)):
        action.add_argument("site", type=Path, metavar="SITE.yaml", help="the hospital's own file")
        action.add_argument("--json", action="store_true", help="print JSON")
        action.set_defaults(run=run)
    verify.add_argument(
        "--remembers",
        type=Path,
        metavar="RUN_DIR",
        action="append",
        default=[],
        help="a run folder whose journal remembers how long the ledger was; may be given several times",
    )


def run_show(args: argparse.Namespace) -> int:
    """Print what was spent. 1 where the ledger cannot be trusted."""
    from app.commands.console import Console
    from app.site.site_file import read_site_file

    file = read_site_file(args.site)
    ledger = _budget(file).read()
    facts = _facts(file, ledger)
    if args.json:
        print(json.dumps(facts, indent=2))
        return 0
    screen = Console()
    if ledger is None:
        screen.note(f"{file.name} has spent nothing: it has no ledger yet ({facts['ledger']})")
        return 0
    screen.show(_table(facts))
    for text in _remarks(facts):
        screen.note(text)
    return 0


def run_verify(args: argparse.Namespace) -> int:
    """Print every fault of the ledger; 1 where there is any."""
    from app.site.site_file import read_site_file

    file = read_site_file(args.site)
    anchors = [anchor for folder in args.remembers for anchor in _remembered(folder, file.name)]
    faults = _budget(file).verify(anchors)
    if args.json:
        print(json.dumps([{"line": f.line, "code": f.code, "what": f.what} for f in faults], indent=2))
    else:
        for fault in faults:
            print(f"{fault.code}: {fault.what}")
        print(f"{file.name}: the ledger is {f'damaged in {len(faults)} places' if faults else 'intact'}")
        if not anchors and not faults:
            print(ALONE)
    return 1 if faults else 0


def _budget(file: "SiteFile") -> Any:
    from app.site.budget import Budget

    return Budget(file.state_dir, file.ledger_key, file.name)


def _remembered(folder: Path, hospital: str) -> list["Anchor"]:
    """What a run's journal says of a hospital's ledger."""
    from app.privacy.rollback import told
    from app.rounds.folder import opened

    return [anchor for _, anchor in told(opened(folder).lines(), hospital)]


def _facts(file: "SiteFile", ledger: "Ledger | None") -> dict[str, Any]:
    from app.config import compose
    from app.site.site_file import lifetime_limits

    cap, delta = lifetime_limits(file.policy, compose()["budget"])
    frame = {"hospital": file.name, "ledger": str(file.state_dir / "ledger.jsonl"), "cap": cap, "delta": delta}
    if ledger is None:
        return {**frame, "spent": 0.0, "spent_if_planned": 0.0, "left": cap, "runs": []}
    return {
        **frame,
        "spent": ledger.spent(delta),
        "spent_if_planned": ledger.spent_if_planned(delta),
        "left": ledger.left(cap, delta),
        "runs": [_run(ledger, cost, cap, delta) for cost in ledger.costs(delta)],
    }


def _run(ledger: "Ledger", cost: Any, cap: float, delta: float) -> dict[str, Any]:
    """One run: what it cost by itself, and how many more of its rounds fit under the cap."""
    last = [entry.events for entry in ledger.reserved if entry.run == cost.run and _trains(entry.events)]
    fits = ledger.rounds_left(last[-1], cap, delta, cost.run) if last else None
    return {
        "run": cost.run,
        "unit": cost.unit,
        "rounds": cost.rounds,
        "epsilon": cost.epsilon,
        "by_kind": dict(cost.kinds),
        "rounds_left": fits,
    }


def _trains(events: Any) -> bool:
    return any(event.kind == "dp-sgd" for event in events)


def _table(facts: dict[str, Any]) -> Any:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for name in ("run", "unit"):
        table.add_column(name, no_wrap=True)
    for name in ("rounds", "ε", "training", "scoring", "more rounds fit"):
        table.add_column(name, justify="right", no_wrap=True)
    for run in facts["runs"]:
        kinds = [_epsilon(run["by_kind"].get(kind)) for kind in ("dp-sgd", "histogram")]
        table.add_row(
            run["run"], run["unit"], str(run["rounds"]), _epsilon(run["epsilon"]), *kinds, str(run["rounds_left"] or 0)
        )
    return table


def _remarks(facts: dict[str, Any]) -> list[str]:
    return [
        f"all runs together: ε {facts['spent']:.2f} of the cap {facts['cap']:g} at δ {facts['delta']:g} are spent, "
        f"{facts['left']:.2f} left",
        f"had all of it been planned at once: ε {facts['spent_if_planned']:.2f}; later runs were chosen after seeing "
        "earlier ones, so the larger figure counts",
        f"the ledger: {facts['ledger']}",
    ]


def _epsilon(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"
