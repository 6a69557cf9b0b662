"""One round at the server: whom to ask and what, the answers, and the state after it.

Step 1 select, step 2 send, step 3 take each answer in as it comes (`intake`), step 4 release, apply, note the facts.
"""

import logging
import math
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from strategies import records
from strategies.aggregate import Combined
from strategies.attendance import Attendance
from strategies.course import Course
from strategies.exchange.post import Answer
from strategies.intake import Intake
from strategies.parts import Parts
from strategies.privacy import Facts
from strategies.records.arrays import part_of, record_nbytes, to_record
from strategies.server_opt import Moments, moved
from strategies.tensors import averaged
from strategies.types import MEMORY_LOST, Plan, RoundFacts, ServerState, Tensors

if TYPE_CHECKING:
    from flwr.app import ArrayRecord, Message

log = logging.getLogger(__name__)

TTL_ROUNDS = 2
"""A message lives this many deadlines longer than it may be late, so that late answers can be counted."""


@dataclass
class Round:
    """Opened with what is known before it; closed into the state after it."""

    parts: Parts
    course: Course
    state: ServerState
    roster: Mapping[str, int]
    """Hospitals that are there, and their nodes."""
    busy: Iterable[str] = ()
    """Hospitals still at work on an earlier round: not asked again."""
    bytes_down: dict[str, int] = field(default_factory=dict)
    began: float = field(default_factory=time.monotonic)

    # --- who is asked, and what ---

    @property
    def number(self) -> int:
        return self.state.round + 1

    @property
    def quorum(self) -> int:
        """How many updates the round needs: what the course asks for and what the aggregate needs."""
        return max(self.course.quorum, self.parts.aggregate.least)

    @cached_property
    def attendance(self) -> Attendance:
        return Attendance.of(self.state.facts)

    @cached_property
    def benched(self) -> tuple[str, ...]:
        """Left out after failing several times; nobody is where the round would then be too small."""
        out = self.attendance.benched(sorted(self.roster), self.number)
        return out if len(self.roster) - len(out) >= self.quorum else ()

    @cached_property
    def asked(self) -> tuple[str, ...]:
        """Step 1. Nobody, where too few are there for a quorum."""
        if len(self.roster) < self.quorum:
            return ()
        return self.parts.selection.select(
            sorted(set(self.roster) - set(self.benched) - set(self.busy)),
            seed=self.course.plan.seed,
            round=self.number,
            seen=self.attendance.seen,
            quorum=self.quorum,
        )

    def plan(self, hospital: str, round: int) -> Plan:
        """What a hospital is, or was, asked."""
        plan = self.course.plan_for(hospital, round, score=self.parts.weighting.needs_score, strength=self.strength)
        return replace(plan, taken=self.attendance.get(hospital).taken)

    @cached_property
    def strength(self) -> float:
        return self.parts.local.strength(self.state.facts.get("losses", ()))

    def requests(self) -> "dict[str, Message]":
        """Step 2. One message for each hospital asked; they share the model's bytes."""
        whole = to_record(self.state.model)
        travelling = self._travelling(whole)
        control = to_record(self.control) if self.parts.local.uses_control else None
        messages = {}
        for hospital in self.asked:
            model = travelling if self.attendance.get(hospital).holds_model else whole
            self.bytes_down[hospital] = record_nbytes(model) + record_nbytes(control)
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
        return whole if len(shared) == len(whole) else part_of(whole, shared)

    # --- what travels ---

    @cached_property
    def kinds(self) -> Mapping[str, str]:
        return self.course.kinds_of(self.state.model)

    @cached_property
    def like(self) -> Tensors:
        """What an update must look like: the tensors that travel and are averaged."""
        return averaged(self.state.model, self.parts.sharing.shared(self.kinds))

    @cached_property
    def control(self) -> Tensors:
        """The server's control variate c, for the trained among them: the weighted mean of all hospitals' c_k.

        The state holds their sum. A hospital whose first update is still to come has a c_k of zero and is taken to
        weigh as much as the others do on average: it counts as soon as it is there, and c is their mean throughout.
        """
        if not self.parts.local.uses_control:
            return {}
        trained = {name: t for name, t in self.like.items() if self.kinds[name] != "norm-statistic"}
        weights = [row.control_weight for row in self.attendance.seen.values() if row.control_weight]
        if not weights:
            return {name: np.zeros_like(t) for name, t in trained.items()}
        hospitals = len(set(self.attendance.seen) | set(self.roster))
        share = 1 / (math.fsum(weights) * (hospitals / len(weights)))
        return {name: self.state.control[name] * t.dtype.type(share) for name, t in trained.items()}

    # --- answers ---

    @cached_property
    def intake(self) -> Intake:
        return Intake(
            self.parts,
            self.course.gate,
            self.number,
            max(self.number - self.course.max_staleness, int(self.state.facts.get("anew", 0)) + 1),
            self.plan,
            self.like,
            self.control,
            self.privacy_state,
            {name: row.control_weight for name, row in self.attendance.seen.items() if row.control_weight},
        )

    @property
    def privacy_state(self) -> Facts:
        state: Facts = self.state.facts.get("privacy", {})
        return state

    def take(self, answer: Answer) -> None:
        """Step 3. One answer."""
        self.intake.take(answer)

    def is_enough(self) -> bool:
        """Whether late answers need not be waited for: there is a quorum without them, or they would not be used."""
        return self.course.max_staleness == 0 or len(self.intake.reports) >= self.quorum

    # --- the state after ---

    def close(self) -> tuple[ServerState, RoundFacts]:
        """Step 4. The state and the facts of the round. Raises NoWeight where all weights are zero."""
        self.intake.drop_outliers()
        state, facts = self._applied() if len(self.intake.reports) >= self.quorum else self._failed()
        return (self._anew(state), facts) if self._has_lost_control() else (state, facts)

    def _applied(self) -> tuple[ServerState, RoundFacts]:
        combined, control_change = self.intake.combine()
        factors = {hospital: self.intake.factors[hospital] for hospital in combined.weights}
        delta, privacy_state, privacy_facts = self.parts.privacy.release(
            combined.delta, factors, self.privacy_state, self.intake.norms
        )
        moments, model = self._stepped(delta)
        taken = self.intake.taken(combined)
        state = ServerState(
            round=self.number,
            model=model,
            server_opt=moments,
            control=self._next_control(control_change, taken),
            facts=self._next_facts(taken, failed=0, losses=self._losses(combined), privacy=privacy_state),
        )
        return state, self._facts(weights=combined.weights, privacy=privacy_facts)

    def _stepped(self, delta: Tensors) -> tuple[Moments, Tensors]:
        """The server optimiser's step. A batch norm's statistics are not trained: they move by their mean change.

        Momentum or an adaptive step would carry a running variance below zero.
        """
        statistics = {name: d for name, d in delta.items() if self.kinds[name] == "norm-statistic"}
        trained = {name: d for name, d in delta.items() if name not in statistics}
        moments, model = self.parts.server_opt.step(self.state.server_opt, self.state.model, trained)
        return moments, moved(model, statistics, lr=1.0, into=statistics)

    def _next_control(self, mean_change: Tensors, taken: Iterable[str]) -> Tensors:
        """SCAFFOLD's server half, as a sum: Σ w_k·c_k + Σ w_k·Δc_k, the latter over those taken."""
        weight = math.fsum(self.intake.control_weights.get(hospital, 0.0) for hospital in taken)
        change = {name: mean.dtype.type(weight) * mean for name, mean in mean_change.items()}
        return {name: self.state.control.get(name, np.zeros_like(d)) + d for name, d in change.items()}

    def _has_lost_control(self) -> bool:
        """Whether a hospital has lost its c_k, which the sum here still holds and nobody can take out again."""
        lost = {refusal.hospital for refusal in self.intake.refused if refusal.code == MEMORY_LOST}
        return self.parts.local.uses_control and any(self.attendance.get(hospital).taken for hospital in lost)

    def _anew(self, state: ServerState) -> ServerState:
        """All control variates at zero again, here and, by their plans, at all hospitals: then c is their mean.

        It costs one round without correction: c_k⁺ is the mean gradient of a round, whatever c_k was before. A c that
        keeps what its hospital has lost would pull the model away from the optimum for good.
        """
        log.warning("round %d: a hospital lost its control variate; all begin anew at zero", self.number)
        attendance = Attendance.of(state.facts).anew()
        facts = {**state.facts, "attendance": attendance.facts(), "anew": self.number}
        return replace(state, control={}, facts=facts)

    def _losses(self, combined: Combined) -> list[float]:
        mean = sum(combined.weights.get(name, 0.0) * report.loss for name, report in self.intake.reports.items())
        before = list(self.state.facts.get("losses", ()))
        return [*before, mean] if math.isfinite(mean) else before

    def _failed(self) -> tuple[ServerState, RoundFacts]:
        failed = int(self.state.facts.get("failed", 0)) + 1
        state = replace(self.state, round=self.number, facts=self._next_facts({}, failed=failed))
        return state, self._facts(weights={}, privacy={}, failed="quorum")

    def _next_facts(self, taken: Mapping[str, int], **changed: object) -> dict[str, object]:
        attendance = self.attendance.after(
            self.number,
            asked=self.asked,
            good=self.intake.reports,
            strikes=self.course.strikes,
            bench=self.course.bench,
        ).counting(taken, self.intake.control_weights)
        return {**self.state.facts, "attendance": attendance.facts(), **changed}

    def _facts(self, *, weights: Mapping[str, float], privacy: Facts, failed: str = "") -> RoundFacts:
        return RoundFacts(
            round=self.number,
            seconds=time.monotonic() - self.began,
            asked=self.asked,
            reports=self.intake.reports,
            weights=weights,
            norms=self.intake.norms,
            bytes_down=self.bytes_down,
            bytes_up=self.intake.bytes_up,
            refused=tuple(self.intake.refused),
            failed=failed,
            late=self.intake.late,
            benched=self.benched,
            strength=self.strength,
            privacy=privacy,
        )
