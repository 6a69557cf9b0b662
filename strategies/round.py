"""One round at the server: whom to ask and what, each answer taken in as it comes, and the state after it.

Updates of like size share one running sum (see `gate`), so memory grows with the spread of sizes and not with the
number of hospitals; at the end the sums that pass are put together.
"""

import logging
import math
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from strategies import gate, records
from strategies.aggregate import Combined, Fold
from strategies.aggregate.mean import Mean
from strategies.attendance import Attendance
from strategies.course import Course
from strategies.errors import StrategyError
from strategies.exchange.post import Answer
from strategies.parts import Parts
from strategies.records import Reply
from strategies.server_opt import Moments, moved
from strategies.tensors import averaged, norm
from strategies.types import Plan, Refusal, Report, RoundFacts, ServerState, Tensors

if TYPE_CHECKING:
    from flwr.app import ArrayRecord, Message

log = logging.getLogger(__name__)

TTL_ROUNDS = 2
"""A message lives this many deadlines longer than it may be late, so that late answers can be counted."""


@dataclass
class Tally:
    """What updates of like size add up to."""

    deltas: Fold
    controls: Fold
    members: list[str] = field(default_factory=list)


@dataclass
class Round:
    """Opened with what is known before it; closed into the state after it. Holds running sums, no single update."""

    parts: Parts
    course: Course
    state: ServerState
    roster: Mapping[str, int]
    busy: Iterable[str] = ()
    """Hospitals still at work on an earlier round: not asked again."""
    tallies: dict[int, Tally] = field(default_factory=dict)
    reports: dict[str, Report] = field(default_factory=dict)
    factors: dict[str, float] = field(default_factory=dict)
    norms: dict[str, float] = field(default_factory=dict)
    sizes: dict[str, float] = field(default_factory=dict)
    late: dict[str, int] = field(default_factory=dict)
    bytes_up: dict[str, int] = field(default_factory=dict)
    bytes_down: dict[str, int] = field(default_factory=dict)
    refused: list[Refusal] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)

    # --- who, and what they are asked ---------------------------------------------------------------------------

    @property
    def number(self) -> int:
        return self.state.round + 1

    @cached_property
    def attendance(self) -> Attendance:
        return Attendance.of(self.state.facts)

    @cached_property
    def benched(self) -> tuple[str, ...]:
        """Left out after failing several times; nobody is where the round would then be too small."""
        out = self.attendance.benched(sorted(self.roster), self.number)
        return out if len(self.roster) - len(out) >= self.quorum else ()

    @cached_property
    def quorum(self) -> int:
        """How many updates the round needs: what the course asks for and what the aggregate needs."""
        return max(self.course.quorum, self.parts.aggregate.least)

    @cached_property
    def asked(self) -> tuple[str, ...]:
        """Step 1. Nobody, where too few are there for a quorum."""
        if len(self.roster) < self.quorum:
            return ()
        available = sorted(set(self.roster) - set(self.benched) - set(self.busy))
        return self.parts.selection.select(
            available,
            seed=self.course.plan.seed,
            round=self.number,
            seen=self.attendance.seen,
            quorum=self.quorum,
        )

    @cached_property
    def kinds(self) -> Mapping[str, str]:
        return self.course.kinds_of(self.state.model)

    @cached_property
    def like(self) -> Tensors:
        """What an update must look like: the tensors that travel and are averaged."""
        return averaged(self.state.model, self.parts.sharing.shared(self.kinds))

    @cached_property
    def control_like(self) -> Tensors:
        """What a control variate must look like: the trained among them."""
        if not self.parts.local.uses_control:
            return {}
        return {name: t for name, t in self.like.items() if self.kinds[name] != "norm-statistic"}

    @property
    def control(self) -> Tensors:
        """The server's control variate; zeros before the first round."""
        return {name: self.state.control.get(name, np.zeros_like(t)) for name, t in self.control_like.items()}

    def requests(self) -> "dict[str, Message]":
        """Step 2. One message for each hospital asked; they share the model's bytes."""
        whole = records.to_record(self.state.model)
        travelling = self._travelling(whole)
        control = records.to_record(self.control) if self.parts.local.uses_control else None
        messages = {}
        for hospital in self.asked:
            model = travelling if self.attendance.get(hospital).holds_model else whole
            self.bytes_down[hospital] = records.record_nbytes(model) + records.record_nbytes(control)
            messages[hospital] = records.request(
                self.roster[hospital],
                "train",
                self.plan(hospital, self.number),
                model=model,
                control=control,
                ask=self.course.ask or None,
                ttl_s=self.course.deadline_s * (self.course.max_staleness + TTL_ROUNDS),
            )
        return messages

    def _travelling(self, whole: "ArrayRecord") -> "ArrayRecord":
        shared = self.parts.sharing.shared(self.kinds)
        return whole if len(shared) == len(whole) else records.part_of(whole, shared)

    def plan(self, hospital: str, round: int) -> Plan:
        """What a hospital is, or was, asked."""
        return self.course.plan_for(hospital, round, score=self.parts.weighting.needs_score, strength=self.strength)

    @cached_property
    def strength(self) -> float:
        return self.parts.local.strength(self.state.facts.get("losses", ()))

    # --- answers ------------------------------------------------------------------------------------------------

    def take(self, answer: Answer) -> None:
        """Step 3. One answer: decoded, checked, added to the sums, dropped. What is wrong with it becomes a refusal."""
        try:
            code = answer.code or self._take(answer)
        except StrategyError as error:
            log.warning("round %d: the answer of hospital %s is not used: %s", self.number, answer.hospital, error)
            code = error.code
        if code:
            self.refused.append(Refusal(answer.hospital, answer.round, code))

    def is_enough(self) -> bool:
        """Whether late answers need not be waited for: there is a quorum without them, or they would not be used."""
        return self.course.max_staleness == 0 or len(self.reports) >= self.quorum

    def _take(self, answer: Answer) -> str:
        message = answer.message
        if message is None:
            return "no-answer"
        if code := records.declined(message):
            return code
        if self.number - answer.round > self.course.max_staleness:
            return "late"
        reply = records.read_reply(message)
        self.bytes_up[answer.hospital] = reply.nbytes
        if code := gate.mismatch(reply.report, self.plan(answer.hospital, answer.round)):
            return code
        if answer.hospital in self.reports:
            return "answered-twice"
        factor = self.parts.privacy.factor(self.parts.weighting.factor(reply.report, self.number))
        code = self._add(reply, factor)
        if code and self.parts.privacy.counts_refused:
            self._tally(0).deltas.add(answer.hospital, {}, factor)
            self.factors[answer.hospital] = factor
        return code

    def _add(self, reply: Reply, factor: float) -> str:
        """Add an update to the sum of its size class; a code where it may not be added."""
        try:
            delta = self.parts.wire.decode(self.parts.exchange.unseal(reply.encoded), self.like)
        except StrategyError as error:
            return error.code
        code = gate.misshaped(delta, self.like) or gate.misshaped(reply.control, self.control_like)
        length = math.nan if code else norm(delta)
        code = code or gate.unusable(length) or ("" if math.isfinite(norm(reply.control)) else "not-finite")
        if code:
            return code
        report = reply.report
        tally = self._tally(
            0 if self.parts.privacy.counts_refused else self.course.gate.size_class(length, report.steps)
        )
        tally.deltas.add(report.hospital, self.parts.privacy.bound(delta, self.privacy_state), factor)
        tally.controls.add(report.hospital, reply.control, factor)
        tally.members.append(report.hospital)
        self._note(report, factor, length)
        return ""

    def _note(self, report: Report, factor: float, length: float) -> None:
        hospital = report.hospital
        self.reports[hospital] = report
        self.factors[hospital] = factor
        self.norms[hospital] = length
        self.sizes[hospital] = gate.size(length, report.steps)
        if report.round < self.number:
            self.late[hospital] = self.number - report.round

    def _tally(self, size_class: int) -> Tally:
        if size_class not in self.tallies:
            self.tallies[size_class] = Tally(self.parts.aggregate.begin(self.like), Mean().begin(self.control_like))
        return self.tallies[size_class]

    @property
    def privacy_state(self) -> Mapping[str, object]:
        state = self.state.facts.get("privacy", {})
        return state if isinstance(state, Mapping) else {}

    # --- the state after ----------------------------------------------------------------------------------------

    def close(self) -> tuple[ServerState, RoundFacts]:
        """Step 4. The state and the facts of the round. Raises NoWeight where all weights are zero."""
        self._drop_outliers()
        if len(self.reports) < self.quorum:
            return self._failed()
        combined, control = self._combine()
        factors = {hospital: self.factors[hospital] for hospital in combined.weights}
        delta, privacy_state, privacy_facts = self.parts.privacy.release(combined.delta, factors, self.privacy_state)
        moments, model = self._applied(delta)
        state = ServerState(
            round=self.number,
            model=model,
            server_opt=moments,
            control=control,
            facts=self._next_facts(failed=0, losses=self._losses(combined), privacy=privacy_state),
        )
        return state, self._facts(weights=combined.weights, privacy=privacy_facts)

    def _applied(self, delta: Tensors) -> tuple[Moments, Tensors]:
        """The server optimiser's step. A batch norm's statistics are not trained: they move by their mean change.

        Momentum or an adaptive step would carry a running variance below zero.
        """
        statistics = {name: d for name, d in delta.items() if self.kinds[name] == "norm-statistic"}
        trained = {name: d for name, d in delta.items() if name not in statistics}
        moments, model = self.parts.server_opt.step(self.state.server_opt, self.state.model, trained)
        return moments, moved(model, statistics, lr=1.0)

    def _drop_outliers(self) -> None:
        if self.parts.privacy.counts_refused or not self.sizes:
            return
        for size_class in [key for key in self.tallies if not self.course.gate.passes(key, self.sizes)]:
            for hospital in self.tallies.pop(size_class).members:
                self.refused.append(Refusal(hospital, self.reports[hospital].round, "norm-outlier"))
                del self.reports[hospital]

    def _combine(self) -> tuple[Combined, Tensors]:
        first, *others = (self.tallies[key] for key in sorted(self.tallies))
        for other in others:
            first.deltas.merge(other.deltas)
            first.controls.merge(other.controls)
        return first.deltas.combine(), self._next_control(first)

    def _next_control(self, tally: Tally) -> Tensors:
        """SCAFFOLD's server half: c ← c + |S|/N · mean of the hospitals' changes."""
        if not self.control_like:
            return self.state.control
        change = tally.controls.combine().delta
        share = len(self.reports) / max(len(set(self.attendance.seen) | set(self.roster)), 1)
        return {name: c + c.dtype.type(share) * change[name] for name, c in self.control.items()}

    def _losses(self, combined: Combined) -> list[float]:
        mean = sum(combined.weights.get(name, 0.0) * report.loss for name, report in self.reports.items())
        before = list(self.state.facts.get("losses", ()))
        return [*before, mean] if math.isfinite(mean) else before

    def _failed(self) -> tuple[ServerState, RoundFacts]:
        failed = int(self.state.facts.get("failed", 0)) + 1
        state = replace(self.state, round=self.number, facts=self._next_facts(failed=failed))
        return state, self._facts(weights={}, privacy={}, failed="quorum")

    def _next_facts(self, **changed: object) -> dict[str, object]:
        attendance = self.attendance.after(
            self.number,
            asked=self.asked,
            good=self.reports,
            strikes=self.course.strikes,
            bench=self.course.bench,
        )
        return {**self.state.facts, "attendance": attendance.facts(), **changed}

    def _facts(self, *, weights: Mapping[str, float], privacy: Mapping[str, object], failed: str = "") -> RoundFacts:
        return RoundFacts(
            round=self.number,
            seconds=time.monotonic() - self.began,
            asked=self.asked,
            reports=self.reports,
            weights=weights,
            norms=self.norms,
            bytes_down=self.bytes_down,
            bytes_up=self.bytes_up,
            refused=tuple(self.refused),
            failed=failed,
            late=self.late,
            benched=self.benched,
            strength=self.strength,
            privacy=privacy,
        )
