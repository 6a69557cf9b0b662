"""`fedvox audit`: attack a mechanism, and put what the attack shows beside what is claimed."""

import argparse
import json
import math
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from app.audit.privacy import Audit
    from app.config import Config

EPILOG = """\
examples:
  fedvox audit privacy                                     # patient, sample, site, and none: there it must succeed
  fedvox audit privacy strategy/privacy=patient strategy.privacy.epsilon=1
  fedvox audit privacy experiment=private_demo --seed 7    # the mechanism of an experiment
"""

AUDITED = ("patient", "sample", "site", "none")
"""One after the other, where no part is named."""

NAMES_A_PART = ("strategy/privacy=", "strategy=", "experiment=")

UNITS, HOSPITALS = 1000, 200
"""Canaries: patients or crops of a hospital; hospitals."""


def add_parser(verbs: Any) -> None:
    """Add `audit` and what it can do to the verbs."""
    parser = verbs.add_parser("audit", help="attack a mechanism: claimed ε beside a lower bound")
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    privacy = actions.add_parser(
        "privacy",
        help="insert or leave out canaries, and guess which",
        description="One run with many canaries (Steinke, Nasr, Jagielski 2023). Each is in or out by a fair coin; the "
        "attacker sees every model that leaves and guesses. More right guesses than ε allows refute it.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    privacy.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="settings, as in conf/")
    privacy.add_argument("--canaries", type=int, help=f"how many (default: {UNITS}; of hospitals {HOSPITALS})")
    privacy.add_argument(
        "--guesses", type=int, help="how many are guessed about (default: all without privacy, else a fifth)"
    )
    privacy.add_argument("--seed", type=int, default=0, help="of canaries and coins, never of noise (default: 0)")
    privacy.add_argument("--json", action="store_true", help="print JSON, one line an audit")
    privacy.set_defaults(run=run_privacy)


def run_privacy(args: argparse.Namespace) -> int:
    """Audit, and print both figures. 1 where a claim is refuted."""
    from app.audit.privacy import audit
    from app.commands.console import Console
    from app.config import compose
    from app.privacy.refusals import check_private

    configs = [compose(overrides) for overrides in _cases(args.overrides)]
    for config in configs:
        check_private(config)
    attacks = [_attack(config, args) for config in configs]
    found = []
    for config, attack in zip(configs, attacks, strict=True):
        found.append(audit(config, attack))
        if args.json:
            print(json.dumps(_plain(found[-1])), flush=True)
    if not args.json:
        screen = Console(sys.stdout)
        screen.show(_table(found))
        screen.note(f"each shown ε holds with {attacks[0].confidence:.2%} confidence")
    return 0 if all(one.holds for one in found) else 1


def _cases(overrides: Sequence[str]) -> list[list[str]]:
    """The settings of every audit that was asked for."""
    frame = [] if any(text.startswith("experiment=") for text in overrides) else ["experiment=audit"]
    if any(text.startswith(NAMES_A_PART) for text in overrides):
        return [[*frame, *overrides]]
    return [[*frame, f"strategy/privacy={part}", *overrides] for part in AUDITED]


def _attack(config: "Config", args: argparse.Namespace) -> Any:
    """Everything fixed beforehand. Noise leaves only the surest guesses above chance; without it every one is right."""
    from app.audit.privacy import Attack, unit_of
    from app.config import ConfigError

    unit = unit_of(config)
    canaries = args.canaries or (HOSPITALS if unit == "site" else UNITS)
    guesses = args.guesses or (canaries if unit == "none" else max(2, canaries // 5))
    try:
        return Attack(canaries, guesses, args.seed)
    except ValueError as error:
        raise ConfigError(str(error)) from error


def _plain(found: "Audit") -> dict[str, Any]:
    from dataclasses import asdict

    from app.files import finite

    return {**finite(asdict(found)), "holds": found.holds}


def _table(audits: "Sequence[Audit]") -> Any:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for name in ("unit", "canaries", "guesses", "right", "claimed ε", "shown ε", ""):
        table.add_column(name, justify="left" if name in ("unit", "") else "right", no_wrap=True)
    for one in audits:
        counts = (str(number) for number in (one.canaries, one.guesses, one.correct))
        table.add_row(one.unit, *counts, _claimed(one), f"≥ {one.shown:.2f}", _verdict(one))
    return table


def _claimed(one: "Audit") -> str:
    return f"≤ {one.claimed:.2f} at δ {one.delta:g}" if math.isfinite(one.claimed) else "none"


def _verdict(one: "Audit") -> str:
    if not math.isfinite(one.claimed):
        return "nothing was claimed"
    return "holds" if one.holds else "REFUTED"
