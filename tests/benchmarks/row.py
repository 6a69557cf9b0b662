"""One line of the table: what was measured, beside what, and what was asked for."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, is_dataclass
from typing import Any


@dataclass(frozen=True)
class Target:
    """What the ratio of ours to the reference should be: at most (time, memory) or at least (speed) a number."""

    sign: str
    value: float

    def is_met(self, ratio: float) -> bool:
        return ratio <= self.value if self.sign == "≤" else ratio >= self.value

    def __str__(self) -> str:
        return f"{self.sign} {self.value:g}"


def at_most(value: float) -> Target:
    return Target("≤", value)


def at_least(value: float) -> Target:
    return Target("≥", value)


@dataclass(frozen=True)
class Row:
    """A row of bench.json. `ours`, `reference`, `ratio` and `met` are None where nothing could be measured, the last
    three where there is nothing to compare with."""

    name: str
    ours: float | None
    reference: float | None
    ratio: float | None
    unit: str
    target: str
    met: bool | None
    note: str
    command: str = ""

    @property
    def verdict(self) -> str:
        if self.met is None:
            return "skipped" if self.ours is None else "measured"
        return "met" if self.met else "MISSED"


def compared(name: str, *, ours: float, reference: float, unit: str, target: Target, note: str) -> Row:
    """A measured row; both numbers in `unit`."""
    ratio = ours / reference
    return Row(name, ours, reference, ratio, unit, str(target), target.is_met(ratio), note)


def skipped(name: str, target: Target, why: str) -> Row:
    """A row that could not be measured here."""
    return Row(name, None, None, None, "", str(target), None, why)


def as_row(found: object, command: str) -> Row:
    """Whatever a topic yields (a `Row`, another dataclass or a mapping with its keys), with the command filled in."""
    values: Mapping[str, Any] = asdict(found) if is_dataclass(found) else dict(found)  # type: ignore[arg-type,call-overload]
    known = {f.name: values.get(f.name) for f in fields(Row)}
    return Row(**{**known, "note": known["note"] or "", "command": known["command"] or command})  # type: ignore[arg-type]
