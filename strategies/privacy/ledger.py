"""What a hospital's patients have paid: reservations, replies and their cost, read from the lines of a chain.

    opened      hospital, cohort, order of the filter     once, first
    planned     run, its events fixed beforehand          before a run's first reservation, where there is a plan
    reserved    request, run, leg, round, its events      before anything is computed: from here on it is spent
    committed   reservation, SHA-256 of the reply         before the reply leaves

Only `reserved` lines cost. One that was never committed stays spent, and the same request may take it up again: its
first reply never left. A reservation is committed once; what was committed is sent again as it is, never computed anew.

One ledger is one hospital's, whatever folder its data lie in: all runs, sweeps, restarts and evaluations together.
Events of different units stand in one sum; it then speaks for the weakest unit among them.
"""

import hashlib
import json
import math
import secrets
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, lru_cache
from typing import Any

from strategies.errors import StrategyError
from strategies.privacy.accountant import RdpFilter, epsilon, filter_for, rounds_that_fit
from strategies.privacy.chain import LINES_REMEMBERED, Line
from strategies.privacy.events import Event, from_json, to_json

SCHEMA = 1

CAP_UNKNOWN = 8.0
"""For which cap the filter's order is chosen where the hospital has set none yet; any order stays valid."""

MOST_ROUNDS = 10_000
"""As far as `rounds_left` looks."""


class LedgerError(StrategyError, ValueError):
    """The ledger says something that this version cannot read."""

    code = "budget-unreadable"


@dataclass(frozen=True)
class Request:
    """What was asked. Two requests are the same only if nothing differs that a reply could depend on."""

    run: str
    leg: str
    round: int
    digest: str
    """Hash of the plan and of the model that came with it."""

    @cached_property
    def key(self) -> str:
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class Reserved:
    """One reservation."""

    number: int
    """The line on which it stands."""
    request: str
    run: str
    leg: str
    round: int
    events: tuple[Event, ...]
    reply: str | None
    """SHA-256 of the committed reply; None where none was."""


@dataclass(frozen=True)
class Cost:
    """What one run has cost, by itself."""

    run: str
    rounds: int
    unit: str
    epsilon: float
    """By PLD, of this run alone; such figures of several runs do not add up to the total."""
    kinds: Mapping[str, float]
    """The same for each kind of event alone."""


@dataclass(frozen=True)
class Ledger:
    lines: tuple[Line, ...]

    @property
    def hospital(self) -> str:
        return str(self._opened["hospital"])

    @property
    def cohort(self) -> str:
        """Random, drawn when the ledger was opened: tells two ledgers of one name apart."""
        return str(self._opened["cohort"])

    @cached_property
    def reserved(self) -> tuple[Reserved, ...]:
        replies = {line.body["reservation"]: line.body["reply"] for line in self.lines if line.kind == "committed"}
        return tuple(
            Reserved(
                **{**line.body, "events": _events_of(line)},
                number=line.number,
                reply=replies.get(line.number),
            )
            for line in self.lines
            if line.kind == "reserved"
        )

    @property
    def runs(self) -> tuple[str, ...]:
        """In order of their first reservation."""
        return tuple(dict.fromkeys(entry.run for entry in self.reserved))

    def events(self, run: str | None = None) -> tuple[Event, ...]:
        """Every event reserved, of one run or of all."""
        return tuple(event for entry in self.reserved if run in (None, entry.run) for event in entry.events)

    def latest(self, request: Request) -> Reserved | None:
        """The last reservation of this very request."""
        return next((entry for entry in reversed(self.reserved) if entry.request == request.key), None)

    def plan(self, run: str) -> tuple[Event, ...] | None:
        """The events that a run fixed before its first reservation."""
        return next((_events_of(line) for line in self.lines if _plans(line, run)), None)

    def spent(self, delta: float) -> float:
        """Lifetime ε by the filter: valid however later runs were chosen."""
        return self._filter(delta).spent(self.events())

    def spent_if_planned(self, delta: float) -> float:
        """ε of everything by PLD: what it would be, had all of it been planned at once. Shown beside `spent`."""
        return epsilon(self.events(), delta)

    def left(self, cap: float, delta: float) -> float:
        """What remains of the cap; 0 where it is used up."""
        return max(0.0, cap - self.after((), delta, self.runs[0] if len(self.runs) == 1 else ""))

    def after(self, events: Iterable[Event], delta: float, run: str) -> float:
        """ε with these further events of `run`, as it counts against a cap.

        The filter's, except where the ledger knows this one run only, all of it within the plan that was fixed before
        its first reservation: then PLD is valid too, and the smaller counts. A second run meets the filter alone,
        over everything; where the first run stayed within the cap by PLD only, the filter lets no second one begin.
        """
        whole = (*self.events(), *events)
        by_filter = self._filter(delta).spent(whole)
        return min(by_filter, epsilon(whole, delta)) if self._is_one_plan(whole, run) else by_filter

    def rounds_left(self, events: Sequence[Event], cap: float, delta: float, run: str) -> int:
        """How many more rounds of `run` with these events fit under the cap; 10,000 means at least so many."""

        def fits(rounds: int) -> bool:
            return self.after(tuple(events) * rounds, delta, run) <= cap

        reach = 1
        while reach < MOST_ROUNDS and fits(reach):
            reach *= 2
        return rounds_that_fit(fits, min(reach, MOST_ROUNDS))

    def costs(self, delta: float) -> tuple[Cost, ...]:
        """Every run by itself, by kind."""
        return tuple(self._cost(run, delta) for run in self.runs)

    def _cost(self, run: str, delta: float) -> Cost:
        events = self.events(run)
        kinds = {kind: [event for event in events if event.kind == kind] for kind in sorted({e.kind for e in events})}
        return Cost(
            run=run,
            rounds=len({(entry.leg, entry.round) for entry in self.reserved if entry.run == run}),
            unit=" + ".join(sorted({event.unit for event in events})),
            epsilon=epsilon(events, delta),
            kinds={kind: epsilon(some, delta) for kind, some in kinds.items()},
        )

    def _is_one_plan(self, whole: Iterable[Event], run: str) -> bool:
        plan = self.plan(run)
        if plan is None or set(self.runs) - {run}:
            return False
        return Counter(whole) <= Counter(plan)

    def _filter(self, delta: float) -> RdpFilter:
        return RdpFilter(int(self._opened["order"]), delta)

    @cached_property
    def _opened(self) -> Mapping[str, Any]:
        if not self.lines or self.lines[0].kind != "opened" or self.lines[0].body.get("schema") != SCHEMA:
            raise LedgerError(f"no ledger of schema {SCHEMA}: its first line does not open one; update fedvox")
        return self.lines[0].body


def opening(hospital: str, cap: float | None, delta: float) -> dict[str, Any]:
    """Body of the first line. The filter's order is fixed here, before anything is released."""
    order = filter_for(cap if cap is not None and math.isfinite(cap) else CAP_UNKNOWN, delta).order
    return {"schema": SCHEMA, "hospital": hospital, "cohort": secrets.token_hex(16), "order": order}


def planning(run: str, events: Iterable[Event]) -> dict[str, Any]:
    """Body of a `planned` line; equal events stand once, with their count."""
    return {"run": run, "events": _counted(events)}


def reserving(request: Request, events: Iterable[Event]) -> dict[str, Any]:
    """Body of a `reserved` line."""
    facts = {"run": request.run, "leg": request.leg, "round": request.round, "request": request.key}
    return {**facts, "events": _counted(events)}


def committing(reservation: int, reply: bytes) -> dict[str, Any]:
    """Body of a `committed` line."""
    return {"reservation": reservation, "reply": hashlib.sha256(reply).hexdigest(), "bytes": len(reply)}


def _plans(line: Line, run: str) -> bool:
    return line.kind == "planned" and line.body["run"] == run


def _counted(events: Iterable[Event]) -> list[list[Any]]:
    """[[count, event], …] in order of first appearance."""
    counts = Counter(map(_name, events))
    return [[count, json.loads(name)] for name, count in counts.items()]


@lru_cache(maxsize=LINES_REMEMBERED)
def _events_of(line: Line) -> tuple[Event, ...]:
    """Of a `planned` or `reserved` line."""
    return tuple(event for count, plain in line.body["events"] for event in (from_json(plain),) * count)


def _name(event: Event) -> str:
    return json.dumps(to_json(event), sort_keys=True)
