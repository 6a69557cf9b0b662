"""`fedvox data label`: a table of labels from LIDC-IDRI's XML, and negatives from inside the lungs."""

import argparse
import sys
from pathlib import Path
from typing import Any

from app.commands.check import Bars, source_of

EPILOG = """\
examples:
  fedvox data label /data/LIDC-IDRI labels.csv --lidc /data/LIDC-XML-only --negatives 20
  fedvox data label north/site.yaml candidates.csv --negatives 50 --seed 7

Of LIDC-IDRI a nodule counts that three of four readers outlined and that has 3 mm (LUNA16's rule). The table has the
columns of labels.csv; for a LUNA16 folder those of candidates.csv. Diameters and seeds make it repeatable.
"""


def add_action(actions: Any) -> None:
    """Add `label` to what `fedvox data` can do."""
    parser = actions.add_parser(
        "label",
        help="make a table of labels",
        description="Write the places of findings, as the data or LIDC's readers have them, and of negatives.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("site", type=Path, metavar="SITE.yaml", help="a hospital's file; or a folder of DICOM")
    parser.add_argument("out", type=Path, metavar="OUT.csv", help="the table to write; never written over")
    parser.add_argument("--lidc", type=Path, metavar="DIR", help="LIDC-IDRI's XML files, anywhere below it")
    parser.add_argument("--readers", type=int, default=3, metavar="K", help="who must agree, of four (3)")
    parser.add_argument("--malignancy", action="store_true", help="1: rated malignant, 0: benign; unsure ones left out")
    parser.add_argument("--negatives", type=int, default=0, metavar="N", help="drawn in the lungs of each scan (0)")
    parser.add_argument("--apart", type=float, default=10.0, metavar="MM", help="of negatives from findings (10)")
    parser.add_argument("--seed", type=int, default=0, help="of the negatives (0)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Write the table and say what is in it."""
    from app.commands.console import Console
    from app.config import ConfigError
    from app.files import replacing
    from data.labelling import LidcRule, labelled

    out = args.out.expanduser().absolute()
    if out.exists():
        raise ConfigError(f"{out} is there already; name another file, or move it away")
    source = source_of(args.site.expanduser())
    lidc = LidcRule(str(args.lidc), args.readers, by_malignancy=args.malignancy) if args.lidc else None
    negatives = _negatives(args)
    with Bars(quiet=not sys.stdout.isatty()) as tell:
        rows = list(labelled(source, lidc=lidc, negatives=negatives, progress=lambda n, of: tell("scans", n, of)))
    with replacing(out) as file:
        _write(Path(file.name), source, rows)
    labels = [place.label for _, places in rows for place in places]
    Console(file=sys.stdout).note(
        f"{out}: {sum(labels)} positive, {len(labels) - sum(labels)} negative, in {len(rows)} scans"
    )
    return 0


def _negatives(args: argparse.Namespace) -> Any:
    from app.config import ConfigError
    from data.errors import BadSetting
    from data.negatives import Negatives

    try:
        return Negatives(args.negatives, args.apart, args.seed) if args.negatives else None
    except BadSetting as error:
        raise ConfigError(str(error)) from error


def _write(path: Path, source: Any, rows: list[tuple[str, list[Any]]]) -> None:
    from data.luna16.tables import CandidateRow, write_candidates
    from data.sources import Luna16
    from data.sources.labels import write_labels

    if isinstance(source, Luna16):
        write_candidates(path, (CandidateRow(uid, p.centre_xyz_mm, p.label) for uid, places in rows for p in places))
    else:
        write_labels(path, rows)
