"""`fedvox data`: make and look at hospitals' data."""

import argparse
from pathlib import Path
from typing import Any

from app.commands import check, label


def add_parser(verbs: Any) -> None:
    """Add `data` and what it can do to the verbs."""
    parser = verbs.add_parser(
        "data",
        help="make synthetic hospitals; check or label a hospital's data",
        description="What a hospital's data are: `fedvox data ACTION --help` explains each action.",
    )
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    synth = actions.add_parser(
        "synth",
        help="write a synthetic cohort",
        description="Write thorax phantoms for every hospital of a federation, each as it would stand in reality: "
        "DIR/NAME/{site.yaml,data/,state/}, real DICOM or real LUNA16.",
        epilog="example: fedvox data synth hospitals source.patients=60 source.seed=7",
    )
    synth.add_argument("dir", type=Path, metavar="DIR", help="where the hospitals go")
    synth.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="settings of `federation` and `source`")
    synth.set_defaults(run=run_synth)
    check.add_action(actions)
    label.add_action(actions)


def run_synth(args: argparse.Namespace) -> int:
    """Write the cohort and say how to train on it."""
    from app.commands import console
    from app.config import ConfigError, compose
    from app.site.directory import cohort

    config = compose(args.overrides)
    made = cohort(config)
    if made is None:
        raise ConfigError("only source=synthetic can be written; leave `source` and `federation.sites` as they are")
    screen = console.Console()
    folder = args.dir.expanduser().absolute()
    made.write_to(folder, config["federation"]["hospitals"], lambda n, of: screen.prepared("patients written", n, of))
    screen.note(f"{', '.join(config['federation']['hospitals'])} in {folder}")
    screen.note(f"train on them: fedvox run experiment=demo federation=sites federation.sites={folder}")
    return 0
