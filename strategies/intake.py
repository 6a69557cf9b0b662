"""What a round has taken in: each answer is checked, decoded, added to a running sum, and dropped.

Updates of like size share a running sum (see `gate`), and there are at most MOST_SUMS: memory does not grow with the
number of hospitals. At the end the sums that pass are put together.

Where a privacy part counts refused updates, an update that may not be used is an update of zeros by the hospital that
sent it: it keeps its weight, its report and its place in the quorum. Otherwise these would tell what the update was.
"""

import logging
import math
import statistics
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from strategies import gate, records
from strategies.aggregate import Combined, Fold
from strategies.aggregate.mean import Mean
from strategies.errors import StrategyError
from strategies.exchange.post import Answer
from strategies.gate import Gate
from strategies.parts import Parts
from strategies.privacy import Facts
from strategies.tensors import norm
from strategies.types import Plan, Refusal, Report, Tensors

if TYPE_CHECKING:
    from flwr.app import Message

log = logging.getLogger(__name__)

MOST_SUMS = 3
"""Hospitals at work on the same model differ little: two sums are usual, and one is for what is far off."""


@dataclass
class Tally:
    """What updates of like size add up to."""

    deltas: Fold
    controls: Fold
    members: list[str] = field(default_factory=list)

    def merge(self, other: "Tally") -> None:
        """Take in another; its sums are then no longer needed."""
        self.deltas.merge(other.deltas)
        self.controls.merge(other.controls)
        self.members += other.members


@dataclass
class Intake:
    """Opened empty for a round; holds running sums and facts, no single update."""

    parts: Parts
    gate: Gate
    round: int
    since: int
    """Answers to earlier rounds are late."""
    plan: Callable[[str, int], Plan]
    """What a hospital was asked in a round."""
    like: Tensors
    """What an update must look like."""
    control_like: Tensors
    """What the change of a control variate must look like."""
    privacy_state: Facts
    control_weights: dict[str, float]
    """How much each hospital's control variate counts: as in the server's sum, or as its first update says."""
    tallies: dict[int, Tally] = field(default_factory=dict)
    reports: dict[str, Report] = field(default_factory=dict)
    factors: dict[str, float] = field(default_factory=dict)
    norms: dict[str, float] = field(default_factory=dict)
    late: dict[str, int] = field(default_factory=dict)
    bytes_up: dict[str, int] = field(default_factory=dict)
    refused: list[Refusal] = field(default_factory=list)

    def take(self, answer: Answer) -> None:
        """One answer; what is wrong with it becomes a refusal."""
        try:
            code = answer.code or self._take(answer)
        except StrategyError as error:
            log.warning("round %d: the answer of hospital %s is not used: %s", self.round, answer.hospital, error)
            code = error.code
        if code:
            self.refused.append(Refusal(answer.hospital, answer.round, code))

    def drop_outliers(self) -> None:
        """Leave out the sums of updates far larger than the others.

        Not where a robust aggregate would then have too few to work on: it withstands them itself.
        """
        sizes = {name: gate.size(length, self.reports[name].steps) for name, length in self.norms.items()}
        if self.parts.privacy.counts_refused or not sizes:
            return
        outliers = [key for key in self.tallies if not self.gate.passes(key, sizes)]
        left = len(self.reports) - sum(len(self.tallies[key].members) for key in outliers)
        if self.parts.aggregate.needs_individual and left < self.parts.aggregate.least:
            return
        for size_class in outliers:
            for hospital in self.tallies.pop(size_class).members:
                self.refused.append(Refusal(hospital, self.reports.pop(hospital).round, "norm-outlier"))

    def combine(self) -> tuple[Combined, Tensors]:
        """The combined update, and the mean change of the control variate. Raises NoWeight for weights all zero."""
        first, *others = (self.tallies[key] for key in sorted(self.tallies))
        for other in others:
            first.merge(other)
        return first.deltas.combine(), first.controls.combine().delta if self.control_like else {}

    def taken(self, combined: Combined) -> dict[str, int]:
        """Whose update went into the model, and the round in which it was asked for.

        An update that a rule passed over, or that has no weight, did not.
        """
        return {name: self.reports[name].round for name, weight in combined.weights.items() if weight > 0}

    def _take(self, answer: Answer) -> str:
        message, hospital = answer.message, answer.hospital
        if message is None:
            return "no-answer"
        if code := records.declined(message):
            return code
        if answer.round < self.since:
            return "late"
        report = records.read_report(message)
        if code := gate.mismatch(report, self.plan(hospital, answer.round)):
            return code
        if hospital in self.reports:
            return "answered-twice"
        factor = self.parts.privacy.factor(self.parts.weighting.factor(report, self.round))
        self.bytes_up[hospital] = records.tensor_nbytes(message)
        if not (code := self._add(message, report, factor)):
            self._note(report, factor)
        elif self.parts.privacy.counts_refused:
            self._tally(0).deltas.add(hospital, {}, factor)
            self._note(report, factor)
        return code

    def _add(self, message: "Message", report: Report, factor: float) -> str:
        """Add an update to the sum of its size class; a code where it may not be added."""
        try:
            encoded, control = records.read_update(message)
            delta = self.parts.wire.decode(self.parts.exchange.unseal(encoded), self.like)
        except StrategyError as error:
            return error.code
        is_compared = not self.parts.privacy.counts_refused
        stated = report.norm if is_compared else None
        length, code = self._measured(delta, control, stated)
        if code:
            return code
        tally = self._tally(self.gate.size_class(length, report.steps) if is_compared else 0)
        tally.deltas.add(report.hospital, self.parts.privacy.bound(delta, self.privacy_state), factor, stated)
        if self.control_like:
            tally.controls.add(report.hospital, control, self._control_weight(report) if factor else 0.0)
        tally.members.append(report.hospital)
        self.norms[report.hospital] = length
        return ""

    def _control_weight(self, report: Report) -> float:
        """The factor that the hospital's first update would have in time, and always that one.

        The changes of a control variate add up to the variate itself only where all of them count the same.
        """
        return self.control_weights.setdefault(report.hospital, self.parts.weighting.factor(report, report.round))

    def _measured(self, delta: Tensors, control: Tensors, stated: float | None) -> tuple[float, str]:
        """The update's L2 norm, taken or as stated, and a code where its tensors are of no use."""
        if code := gate.misshaped(delta, self.like) or gate.misshaped(control, self.control_like):
            return math.nan, code
        length = norm(delta) if stated is None else stated
        return length, gate.unusable(length) or ("" if math.isfinite(norm(control)) else "not-finite")

    def _note(self, report: Report, factor: float) -> None:
        self.reports[report.hospital] = report
        self.factors[report.hospital] = factor
        if report.round < self.round:
            self.late[report.hospital] = self.round - report.round

    def _tally(self, size_class: int) -> Tally:
        if size_class not in self.tallies:
            self._make_room()
            self.tallies[size_class] = Tally(self.parts.aggregate.begin(self.like), Mean().begin(self.control_like))
        return self.tallies[size_class]

    def _make_room(self) -> None:
        """Join two sums where there are MOST_SUMS; what they share from then on is judged by the larger size.

        The two smallest where both are of no more than usual size, since a small update among larger ones does no
        harm; else the two largest, which are far off the others. (Where most that came first were far off, an ordinary
        update may share a sum with one of them and be left out with it: too little is then added, never too much.)
        Rules that keep single updates have no sums to save.
        """
        for unused in [key for key, tally in self.tallies.items() if not tally.members]:
            del self.tallies[unused]  # opened for an update that was not what it was said to be
        if len(self.tallies) < MOST_SUMS or self.parts.aggregate.needs_individual:
            return
        usual = statistics.median_low([key for key, tally in self.tallies.items() for _ in tally.members])
        keys = sorted(self.tallies)
        smaller, larger = keys[:2] if keys[1] <= usual else keys[-2:]
        self.tallies[larger].merge(self.tallies.pop(smaller))
