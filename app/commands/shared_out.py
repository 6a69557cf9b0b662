"""Who holds what in a simulation, before round 1: a table on the screen, partition.json in the run folder."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING

from rich.table import Table

from app.config import Config
from app.files import write_json
from app.privacy.terms import terms_of
from app.rounds.folder import RunFolder

if TYPE_CHECKING:
    from app.commands.console import Console
    from app.prepare import Prepared

COLUMNS = ("patients", "crops", "positives", "tested")
"""Of `Prepared`, in this order."""


def tell(found: Mapping[str, "Prepared"], config: Config, folder: RunFolder, screen: "Console") -> None:
    """Show and keep it; not where training is private, of which exact counts are no part."""
    if terms_of(config) is not None:
        return
    write_json(folder.path / "partition.json", {name: asdict(one) for name, one in found.items()})
    table = Table(box=None, pad_edge=False)
    table.add_column("hospital")
    for column in COLUMNS:
        table.add_column(column, justify="right")
    for name, one in found.items():
        table.add_row(name, *(f"{getattr(one, column):,}" for column in COLUMNS))
    screen.show(table)
