"""How much one run may cost, as the hospital's policy says: held against what is asked, reservation by reservation.

A run's configuration is judged before it begins (`app.privacy.policy`). What is then asked is the word of a ServerApp
that may be another one: more rounds, or the same round again with another model, each charged as the first.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from app.site.ledger_file import BudgetError
from app.site.site_file import DELTA, own_delta
from strategies.privacy.accountant import epsilon
from strategies.privacy.events import DpSgd, Event

SLACK = 1e-6
"""Relative: a run of exactly the ε that was accepted may not fail its last round by a rounding of its sum."""


@dataclass(frozen=True)
class RunLimits:
    """Limits of one run; None: there is none."""

    epsilon: float | None = None
    steps: float | None = None
    delta: float = DELTA
    """The hospital's own, whatever δ the run has: it would choose how its ε is read."""

    @classmethod
    def of(cls, policy: Mapping[str, Any]) -> "RunLimits":
        """Those of a site.yaml's `policy`."""
        accepted = policy.get("accepted") or {}
        return cls(accepted.get("epsilon_max"), accepted.get("steps_max"), own_delta(policy))

    def check(self, run: str, events: Sequence[Event]) -> None:
        """Whether the run may cost all these events. Raises BudgetError: policy-steps-max, policy-epsilon-max."""
        if self.steps is not None and (steps := steps_of(events)) > self.steps:
            raise BudgetError(
                "policy-steps-max", f"run {run!r} would come to {steps} steps; the policy's steps_max is {self.steps:g}"
            )
        if self.epsilon is not None and (spent := epsilon(events, self.delta)) > self.epsilon * (1.0 + SLACK):
            raise BudgetError(
                "policy-epsilon-max",
                f"run {run!r} would come to ε {spent:.3f} at δ {self.delta:g}; the policy's epsilon_max is "
                f"{self.epsilon:g}",
            )


def steps_of(events: Sequence[Event]) -> int:
    """Steps of private training among events."""
    return sum(event.steps for event in events if isinstance(event, DpSgd))
