"""Which parts do not fit together, and why: the only knowledge of one part about another, as one table.

Asked at composition, before any hospital is.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from strategies.errors import Misfit
from strategies.parts import Parts


@dataclass(frozen=True)
class Setting:
    """What is known when parts are checked. Each further fact allows further checks."""

    parts: Parts
    kinds: Mapping[str, str] = field(default_factory=dict)
    """Tensor → kind; empty where the model is not known yet."""
    hospitals: int | None = None


@dataclass(frozen=True)
class Row:
    """One incompatibility: when it holds, and the sentence shown to the user."""

    name: str
    holds: Callable[[Setting], bool]
    reason: str


TABLE: tuple[Row, ...] = (
    Row(
        "single updates are hidden",
        lambda s: s.parts.aggregate.needs_individual and not s.parts.exchange.shows_individual,
        "this aggregate compares single updates, but this exchange shows the server their sum alone; "
        "use strategy/aggregate=mean or strategy/exchange=plain",
    ),
)


def misfits(setting: Setting) -> Iterator[str]:
    """The reason of every row that holds."""
    return (row.reason for row in TABLE if row.holds(setting))


def check(parts: Parts, *, kinds: Mapping[str, str] | None = None, hospitals: int | None = None) -> None:
    """Raise Misfit with every reason why these parts do not work together on this model and number of hospitals."""
    reasons = list(misfits(Setting(parts, kinds or {}, hospitals)))
    if reasons:
        raise Misfit("; ".join(reasons))
