"""`fedvox compare DIR`: the runs below a folder as one table, an algorithm a row."""

import argparse
from pathlib import Path
from typing import Any

EPILOG = """\
examples:
  fedvox sweep --sweep algorithms,yardsticks --sweep-dir DIR experiment=demo
  fedvox compare DIR
  fedvox compare DIR --markdown > table.md
  fedvox compare DIR --into README.md
"""

BEGIN, END = "<!-- table: algorithms -->\n", "<!-- /table: algorithms -->"
"""Between these the tables of a Markdown file lie."""


def add_parser(verbs: Any) -> None:
    """Add `compare` to the verbs."""
    parser = verbs.add_parser(
        "compare",
        help="runs side by side, mean ± sd over seeds",
        description="Reads the run folders below DIR (a sweep's, or several sweeps') and prints one row an algorithm: "
        "pooled AUC, worst hospital's AUC, rounds to 0.9 of central training's AUC, megabytes, and whether it is worse "
        "than each hospital alone. One table an experiment.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", type=Path, metavar="DIR", help="a folder with run folders in it, at any depth")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print the table as JSON")
    form.add_argument("--markdown", action="store_true", help="print the table as Markdown")
    form.add_argument("--into", type=Path, metavar="FILE", help="put the table, as Markdown, between FILE's markers")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the table."""
    import json
    from dataclasses import asdict

    from app.commands.console import Console
    from app.config import ConfigError
    from app.report.comparison import finished, markdown, tables

    made = tables(finished(args.folder.expanduser()))
    if not made:
        raise ConfigError(f"no finished run below {args.folder}; a sweep's folder is what is needed")
    if args.json:
        print(json.dumps([asdict(row) for table in made for row in table], indent=2))
    elif args.markdown or args.into:
        text = "\n\n".join(map(markdown, made))
        print(text) if args.markdown else put_into(args.into, text)
    else:
        for table in made:
            Console().show(_table(table))
    return 0


def put_into(file: Path, tables: str) -> None:
    """Replace what lies between the markers of a file.

    Raises:
        ConfigError: it has no markers.
    """
    from app.config import ConfigError
    from app.files import write_text

    before, begin, rest = file.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ConfigError(f"{file} has no place for the table: write {BEGIN.strip()} and {END} where it belongs")
    write_text(file, f"{before}{begin}{tables}\n{end}{after}")


def _table(table: Any) -> Any:
    from rich.table import Table

    from app.report.comparison import HEAD, cells

    made = Table(box=None, pad_edge=False)
    made.add_column(table[0].experiment or "algorithm", no_wrap=True)
    for name in HEAD:
        made.add_column(name, justify="left" if name == "remark" else "right")
    for row in table:
        made.add_row(row.name, *cells(row))
    return made
