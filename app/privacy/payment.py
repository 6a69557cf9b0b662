"""A private answer and its price: reserved before it is computed, kept before it leaves, sent again as it was kept.

    digest of what was asked → reserve → (kept before: those bytes) → compute → keep → send

The statement beside an answer says what the ledger then stood at. It depends on events alone, never on data.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Literal

from flwr.app import Message, RecordDict
from flwr.common.serde import recorddict_from_proto, recorddict_to_proto
from flwr.proto.recorddict_pb2 import RecordDict as ProtoRecordDict

from app.config import Config
from app.privacy.terms import Terms
from app.site.budget import NO_LIMITS, Budget, BudgetError, Reservation
from app.site.run_limits import RunLimits
from app.site.shield import Declined
from app.site.site import Site
from app.site.site_file import lifetime_limits
from strategies import records
from strategies.privacy.accountant import epsilon
from strategies.privacy.events import Event
from strategies.privacy.ledger import Request
from strategies.records.arrays import arrays_of
from strategies.types import Plan, Report

if TYPE_CHECKING:
    from app.site.place import Place


@dataclass(frozen=True)
class Statement:
    """What the ledger says after a reservation: goes with the answer."""

    epsilon: float
    """Of this run, by PLD."""
    spent: float
    """Of all runs, as it counts against the cap."""
    delta: float
    cap: float
    ledger: str
    """Length and head of the ledger's chain, "LENGTH:MAC": the coordinator's log then shows a rolled back ledger."""


@dataclass(frozen=True)
class Account:
    """A hospital's ledger with the limits that hold for it."""

    budget: Budget
    cap: float
    delta: float
    limits: RunLimits = NO_LIMITS
    """Of one run."""

    @classmethod
    def of(cls, site: Site, config: Config) -> "Account":
        """The hospital's own limits; the run's where its file says nothing."""
        cap, delta = lifetime_limits(site.policy, config["budget"])
        budget = Budget(site.state_dir, site.ledger_key, site.name, keep_runs=site.keep_runs)
        return cls(budget, cap, delta, RunLimits.of(site.policy))

    def reserve(self, request: Request, events: Sequence[Event], terms: Terms) -> Reservation:
        """Reserve, with the whole run as the plan and the policy's limits of one run. Raises BudgetError."""
        return self.budget.reserve(request, events, cap=self.cap, delta=self.delta, plan=terms.plan, limits=self.limits)

    def statement(self, run: str, reservation: Reservation) -> Statement:
        """What to say beside the answer. Raises BudgetError where the ledger is gone."""
        ledger = self.budget.read()
        if ledger is None:
            raise BudgetError(
                "budget-tampered", f"the ledger of {self.budget.hospital!r} is gone since it was reserved"
            )
        return Statement(
            epsilon=epsilon(ledger.events(run), self.delta),
            spent=ledger.after((), self.delta, run),
            delta=self.delta,
            cap=self.cap,
            ledger=f"{reservation.anchor.length}:{reservation.anchor.head}",
        )


def pay(
    place: "Place",
    message: Message,
    plan: Plan,
    what: Literal["round", "scoring"],
    answer: Callable[[Statement | None], Message],
) -> Message:
    """Answer a message at its price; `answer` computes with fresh noise, and only where it has to.

    Without private training nothing is charged.

    Raises BudgetError where the cap does not allow it or the ledger cannot be used: nothing was computed then.
    Declined for noise that can be foretold, where the hospital has a policy.
    """
    terms, (site, *_) = place.terms, place.sites
    if terms is None:
        return answer(None)
    if terms.part.fixed_seed is not None:
        if site.policy:
            raise Declined("policy-fixed-seed", "a fixed seed gives no ε, and this hospital's policy asks for one")
        return answer(None)
    account = Account.of(site, place.config)
    request = Request(plan.run, plan.leg, plan.round, digest(message))
    reservation = account.reserve(request, terms.round if what == "round" else terms.scoring, terms)
    kept = reservation.reply
    if kept is None:
        made = answer(account.statement(plan.run, reservation))
        kept = account.budget.commit(reservation, _to_bytes(made.content))
    return Message(_from_bytes(kept), reply_to=message)


def stated(report: Report, statement: Statement | None) -> Report:
    """The report with what the ledger says."""
    return report if statement is None else replace(report, **asdict(statement))


def digest(message: Message) -> str:
    """SHA-256 of everything that an answer could depend on: kind, plan, model, control variate."""
    made = hashlib.sha256(message.metadata.message_type.encode())
    for name, record in sorted(records.configs_of(message.content).items()):
        made.update(json.dumps([name, dict(sorted(record.items()))]).encode())
    for name, arrays in sorted(arrays_of(message.content).items()):
        for key, array in sorted(arrays.items()):
            made.update(json.dumps([name, key, array.dtype, list(array.shape), len(array.data)]).encode())
            made.update(array.data)
    return made.hexdigest()


def _to_bytes(content: RecordDict) -> bytes:
    made: bytes = recorddict_to_proto(content).SerializeToString(deterministic=True)
    return made


def _from_bytes(kept: bytes) -> RecordDict:
    return recorddict_from_proto(ProtoRecordDict.FromString(kept))
