"""What happens after every round of a leg: a line in the journal, the state on disk, and whether to go on.

Journal first, then checkpoint: a line too many is dropped on resume, a missing one could not be made up.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from app.metrics import classification
from app.privacy.rollback import rolled_back
from app.rounds.best import Best
from app.rounds.checkpoint import save_state
from app.rounds.folder import RunFolder
from app.rounds.stopping import Stopping, is_spent
from strategies.types import RoundFacts, ServerState, Stop

Listener = Callable[[Mapping[str, Any]], None]
"""Told every journal line as it is written."""


@dataclass
class Progress:
    """Called after each round, as `Course.after_round` wants it."""

    folder: RunFolder
    leg: str
    stopping: Stopping
    best: Best | None
    """None where the last state is the one to deliver."""
    listen: Listener
    values: list[float | None] = field(default_factory=list)
    """Validation AUC of every round so far."""
    lines: list[Mapping[str, Any]] = field(default_factory=list)
    """The journal of every round so far."""
    seconds_before: float = 0.0
    """Of rounds before a resume."""
    started: float = field(default_factory=time.monotonic)

    @classmethod
    def resumed(
        cls, folder: RunFolder, leg: str, stopping: Stopping, initial: ServerState, listen: Listener
    ) -> "Progress":
        """From what the journal says; `initial` is the state that the next round starts from."""
        lines = folder.lines_of(leg)
        best = Best(folder.checkpoint(leg), initial) if stopping.keep_best else None
        values = [line["validation_auc"] for line in lines]
        return cls(folder, leg, stopping, best, listen, values, [*lines], sum(line["seconds"] for line in lines))

    def __call__(self, state: ServerState, facts: RoundFacts) -> Stop | None:
        """Write down one round. Returns why it was the last; None where the run goes on."""
        line = {"leg": self.leg, **_plain(facts), "validation_auc": _validation_auc(facts)}
        line["ledgers_back"] = [str(one) for one in rolled_back([*self.lines, line]) if one.round == facts.round]
        self.values.append(line["validation_auc"])
        self.lines.append(line)
        self.folder.append(line)
        if self.best:
            self.best.keep(self.values, state)
        save_state(self.folder.checkpoint(self.leg), state)
        if self.best:
            self.best.tidy(self.values)
        self.listen(line)
        return self.verdict()

    def verdict(self) -> Stop | None:
        """Whether the rounds so far are enough. Asked on resume, too: a run that was stopped stays stopped."""
        if not self.values:
            return None
        if is_spent(self.lines):
            return Stop("budget", f"the hospitals' budget was used up in round {self.lines[-1]['round']}")
        return self.stopping.verdict(self.values, seconds=self.seconds_before + time.monotonic() - self.started)


def _validation_auc(facts: RoundFacts) -> float | None:
    """Of the model that this round began with: a late report speaks of an earlier one."""
    reports = [report for report in facts.reports.values() if report.round == facts.round]
    return pooled_auc([report.histogram for report in reports if len(report.histogram) == 2 * classification.BINS])


def pooled_auc(histograms: Any) -> float | None:
    """AUC of score histograms (2, BINS) or flat, added up; None where there is none, or a class is missing."""
    if not len(histograms):
        return None
    return classification.auc(np.sum([np.array(counts).reshape(2, -1) for counts in histograms], axis=0))


def _plain(facts: RoundFacts) -> dict[str, Any]:
    """A journal line: everything but the histograms, which the validation AUC stands for."""
    plain = asdict(facts)
    for report in plain["reports"].values():
        del report["histogram"], report["salt"]
    return plain
