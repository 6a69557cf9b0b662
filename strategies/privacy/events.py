"""Facts about releases: what was really done, never what it means. ε is computed from them on read (`accountant`).

A field is never removed and never given another meaning: ledgers outlast versions of this program. A new fact gets a
new event or a field with a default that says "as before", and `SCHEMA` moves on. A line that this version does not
know is refused, not skipped: what cannot be read cannot be counted.

Every event is a Gaussian mechanism. Its `noise_multiplier` is the standard deviation of the noise that was added,
divided by the largest L2 change that one unit could have made: as applied, with the weights of those who replied.

    unit        one unit of it contributes zero in the neighbouring data
    ─────────   ───────────────────────────────────────────────────────
    patient     all scans and crops of one patient in one hospital
    sample      one crop
    site        one hospital's update, in every round
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, ClassVar, Literal

from strategies.errors import StrategyError

SCHEMA = 1

Unit = Literal["patient", "sample", "site"]
Population = Literal["training", "validation", "test", "all"]
Adjacency = Literal["zero-out", "add-remove"]

SYSTEM = "system"
"""Randomness of the operating system: anything else claims no ε."""


class UnknownEventError(StrategyError, ValueError):
    """A recorded event that this version cannot read."""

    code = "unknown-event"


@dataclass(frozen=True, kw_only=True)
class DpSgd:
    """Steps of DP-SGD in one hospital: Poisson draw, one clipped gradient a unit, noise, fixed denominator."""

    kind: ClassVar[str] = "dp-sgd"
    unit: Unit
    noise_multiplier: float
    sample_rate: float
    """Probability with which each unit is drawn in each step."""
    steps: int
    clip: float
    """L2 bound of one unit's gradient."""
    population: Population = "training"
    split: str = ""
    """Which division of the patients; "" where it is not known, and then no two populations count as disjoint."""
    randomness: str = SYSTEM

    def __post_init__(self) -> None:
        _positive(self, "noise_multiplier", "clip")
        if not 0.0 < self.sample_rate <= 1.0:
            raise ValueError(f"dp-sgd: sample_rate is {self.sample_rate}; a probability in (0, 1] is needed")
        if self.steps < 0:
            raise ValueError(f"dp-sgd: steps is {self.steps}; at least 0 is needed")


@dataclass(frozen=True, kw_only=True)
class HistogramRelease:
    """A noised score histogram in which each unit has L2 norm at most 1 over both classes' bins together."""

    kind: ClassVar[str] = "histogram"
    unit: Unit
    noise_multiplier: float
    """Standard deviation of the noise in each bin."""
    bins: int
    population: Population
    split: str = ""
    randomness: str = SYSTEM

    def __post_init__(self) -> None:
        _positive(self, "noise_multiplier", "bins")


@dataclass(frozen=True, kw_only=True)
class SiteRelease:
    """One round's noised sum of clipped updates."""

    kind: ClassVar[str] = "site-release"
    unit: ClassVar[Unit] = "site"
    population: ClassVar[Population] = "all"
    split: ClassVar[str] = ""
    noise_multiplier: float
    """Of everything this round released, the count of adaptive clipping included."""
    adjacency: Adjacency
    clip: float
    sd: float
    """Standard deviation of the noise in each coordinate of the released sum."""
    weights: Mapping[str, float] = field(hash=False)
    """By what each replier's clipped update was multiplied: normalised (zero-out), or capped over W (add-remove)."""
    count_noise: float = 0.0
    """Standard deviation σ_b of the noised count of unclipped updates; 0 where there was none."""
    randomness: str = SYSTEM

    def __post_init__(self) -> None:
        _positive(self, "noise_multiplier", "clip")


@dataclass(frozen=True, kw_only=True)
class NaiveRelease:
    """One round's sum under a formula in circulation: what it claims, and what was really done."""

    kind: ClassVar[str] = "naive-release"
    unit: ClassVar[Unit] = "site"
    population: ClassVar[Population] = "all"
    split: ClassVar[str] = ""
    formula: str
    claimed_epsilon: float | None
    noise_multiplier: float
    """0 where nothing was clipped: then no noise hides a contribution of any size."""
    clip: float | None
    sd: float
    weights: Mapping[str, float] = field(hash=False)
    randomness: str = SYSTEM

    def __post_init__(self) -> None:
        if self.noise_multiplier < 0.0 or not math.isfinite(self.noise_multiplier):
            raise ValueError(f"{self.kind}: noise_multiplier is {self.noise_multiplier}; a finite number ≥ 0 is needed")


Event = DpSgd | HistogramRelease | SiteRelease | NaiveRelease

KINDS: Mapping[str, type[Event]] = {event.kind: event for event in (DpSgd, HistogramRelease, SiteRelease, NaiveRelease)}


def to_json(event: Event) -> dict[str, Any]:
    """The event as plain JSON values, with its kind and the schema's version."""
    return {"schema": SCHEMA, "kind": event.kind, **asdict(event)}


def from_json(plain: Mapping[str, Any]) -> Event:
    """The event that `to_json` wrote. Raises UnknownEventError where any part of it is not known to this version."""
    facts = dict(plain)
    schema, kind = facts.pop("schema", None), facts.pop("kind", None)
    if schema != SCHEMA or kind not in KINDS:
        raise UnknownEventError(
            f"event of kind {kind!r}, schema {schema!r} is not known here (schema {SCHEMA}); update fedvox"
        )
    if unknown := set(facts) - {known.name for known in fields(KINDS[kind])}:
        raise UnknownEventError(
            f"event {kind!r} has fields that are not known here: {', '.join(sorted(unknown))}; update fedvox"
        )
    try:
        return KINDS[kind](**facts)
    except (TypeError, ValueError) as error:
        raise UnknownEventError(f"event {kind!r} cannot be read: {error}") from error


def _positive(event: Any, *names: str) -> None:
    for name in names:
        value = getattr(event, name)
        if not (math.isfinite(value) and value > 0):
            raise ValueError(f"{event.kind}: {name} is {value}; a finite number > 0 is needed")
