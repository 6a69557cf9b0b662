"""What the server remembers of each hospital from round to round: who answered, how long it took, who is left out.

Plain values, kept in `ServerState.facts["attendance"]` so that they are saved and resumed with the model.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from strategies.types import Report


@dataclass(frozen=True)
class Seen:
    """One hospital's record so far."""

    asked: int = 0
    answered: int = 0
    misses: int = 0
    """Failed rounds in a row."""
    away_until: int = 0
    """Left out up to and including this round."""
    holds_model: bool = False
    """Its last answer was good, so it keeps the tensors that do not travel."""
    last_round: int = 0
    """The last round it was asked in; 0: never."""
    seconds: float = 0.0
    """Local work of its last good answer."""
    memory_mb: float | None = None
    taken: int = 0
    """The last round whose update of it went into the model; 0: none did."""
    control_weight: float = 0.0
    """How much its control variate counts in the server's, from its first update on; 0: it is not in there."""


@dataclass(frozen=True)
class Attendance:
    """All hospitals' records. `strikes` failures in a row leave a hospital out for `bench` rounds."""

    seen: Mapping[str, Seen] = field(default_factory=dict)

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> "Attendance":
        """Read back from a state's facts."""
        return cls({name: Seen(**row) for name, row in facts.get("attendance", {}).items()})

    def facts(self) -> dict[str, dict[str, Any]]:
        """As JSON carries it."""
        return {name: asdict(row) for name, row in self.seen.items()}

    def get(self, hospital: str) -> Seen:
        return self.seen.get(hospital, Seen())

    def benched(self, hospitals: Iterable[str], round: int) -> tuple[str, ...]:
        """Who of them is left out of `round`."""
        return tuple(name for name in hospitals if self.get(name).away_until >= round)

    def after(
        self, round: int, *, asked: Iterable[str], good: Mapping[str, Report], strikes: int, bench: int
    ) -> "Attendance":
        """The records after `round`: everybody asked either gave a good answer or missed."""
        rows = dict(self.seen)
        for name in asked:
            before = replace(self.get(name), asked=self.get(name).asked + 1, last_round=round)
            rows[name] = _missed(before, round, strikes, bench)
        for name, report in good.items():
            rows[name] = _answered(rows.get(name, self.get(name)), report)
        return Attendance(rows)

    def counting(self, taken: Mapping[str, int], control_weights: Mapping[str, float]) -> "Attendance":
        """With the updates that went into the model: hospital → the round in which it was asked for it."""
        counted = {
            name: replace(self.get(name), taken=round, control_weight=control_weights.get(name, 0.0))
            for name, round in taken.items()
        }
        return Attendance({**self.seen, **counted})

    def anew(self) -> "Attendance":
        """With no update that counts: every hospital begins with nothing remembered of the server's sums."""
        return Attendance({name: replace(row, taken=0, control_weight=0.0) for name, row in self.seen.items()})


def _answered(row: Seen, report: Report) -> Seen:
    return replace(
        row,
        answered=row.answered + 1,
        misses=0,
        away_until=0,
        holds_model=True,
        seconds=report.seconds,
        memory_mb=report.memory_mb,
    )


def _missed(row: Seen, round: int, strikes: int, bench: int) -> Seen:
    misses = row.misses + 1
    away_until = round + bench if misses >= strikes else 0
    return replace(row, misses=misses, away_until=away_until, holds_model=False)
