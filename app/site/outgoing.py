"""The last look at what leaves a hospital: numbers under names that stand here or came with the question, no more.

Whatever is not in the list for an answer of its kind makes it a refusal (`unlisted-content`): a key, a record or a
tensor by another name, and any text but the few of a fixed form. No patient's id, no UID, no file name and no header's
text has a place in an answer, so none can be forgotten to be removed.

Where training is private the lists are shorter: what is noised and paid for, declared constants, and what the ledger
says. A loss, a score or a time does not leave then, whichever part would send it, and the refusal says "declined".

A part that sends something new adds it here, with the reason why it tells of no patient.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

from flwr.app import ArrayRecord, Context, Message, MessageType

from app.rounds.roster import HELLO, STATISTICS
from app.site import told
from app.site.shield import Declined, Handler
from strategies import records
from strategies.records.arrays import arrays_of, names_in
from strategies.types import Plan, Report

if TYPE_CHECKING:
    from app.privacy.terms import Terms


@dataclass(frozen=True)
class Listed:
    """What answers of one kind may hold."""

    records: re.Pattern[str]
    facts: frozenset[str]
    """Keys of its report."""
    tensors: frozenset[str] = frozenset()
    """Names of arrays, beside those that came with the question."""
    fixed: Mapping[str, Any] = field(default_factory=dict)
    """Facts that were known before anything was computed, and leave as they were known or not at all."""


DELTA = r"delta(\.(values|positions|left|right|scale))*"
"""A delta's groups are named by its codecs (`strategies.wire`), one after another."""

SCORES = frozenset({
    f"{own}{name}" for own in ("", "own_") for name in ("validation", "test", "replicates", "baseline")
})  # fmt: skip
"""Count arrays of a scoring."""

LEDGER = ("epsilon", "spent", "delta", "cap", "ledger")
"""Computed from the events that were paid for, never from data (`app.privacy.payment`)."""

SCORED = ("hospital", "round", "patients", "test_patients", "device", "noise_sd", "salt", *LEDGER)
"""Of a private scoring. How many patients there are is public; the noise follows from the run's settings."""

SCORING = re.compile("report|scores")
LISTS: Mapping[str, Listed] = {
    MessageType.TRAIN: Listed(re.compile(f"report|control|{DELTA}"), frozenset(f.name for f in fields(Report))),
    MessageType.EVALUATE: Listed(SCORING, frozenset({*SCORED, "test_samples", "train_samples"}), SCORES),
    STATISTICS: Listed(SCORING, told.keys() | {"salt"}),
    HELLO: Listed(re.compile("hello"), frozenset({"hospital"})),
}
"""By the question's type. What is asked otherwise is not answered."""

TOLD = ("hospital", "round", "patients", "data_age_months", "device", "run", "leg", "code", "salt", *LEDGER)
"""Of a private round: declared constants and the ledger."""

SILENT: Mapping[str, Any] = {"loss": float("nan"), "seconds": 0.0, "histogram": []}
"""What a report says where nothing is told: these keys are always in it."""

TEXTS: Mapping[str, re.Pattern[str]] = {
    "code": re.compile(r"[0-9a-f]{0,64}"),
    "device": re.compile(r"cpu|cuda(:\d+)?( [\w ./()-]{0,80})?"),
    "ledger": re.compile(r"(\d+:[0-9a-f]{0,64})?"),
    "salt": re.compile(r"[0-9a-f]{0,32}"),
}
"""Text of a fixed form: hardware, hashes."""

ECHOED = ("hospital", "run", "leg")
"""Text that the question brought, given back as it was."""

NAME = re.compile(r"[\w .-]{1,64}")
"""A hospital's own name, where it is asked for it."""


def kept(handler: Handler, terms_of: "Callable[[Message, Context], Terms | None]") -> Handler:
    """`handler`, whose answer is looked at before it leaves. Raises Declined where something is not listed.

    `terms_of` an answered question: what private training promises there; None where it is not private.
    """

    def careful(message: Message, context: Context) -> Message:
        reply = handler(message, context)
        terms = terms_of(message, context)
        for fault in unlisted(message, reply, terms):
            code = "unlisted-content" if terms is None else "declined"
            raise Declined(code, f"an answer with {fault}, which nobody listed, stays here")
        return reply

    return careful


def terms_asked(message: Message, context: Context) -> "Terms | None":
    """The terms of the run that a message is of, as this node composes it; None for one that is of none."""
    from app.privacy.terms import terms_of
    from app.site.place import configured

    return terms_of(configured(context, records.read_plan(message))) if records.PLAN in message.content else None


def unlisted(asked: Message, reply: Message, terms: "Terms | None" = None) -> Iterator[str]:
    """Whatever of a reply is not in the lists, in words for the hospital's own log."""
    content, listed = reply.content, _listed(asked.metadata.message_type, terms)
    yield from (f"record {name!r}" for name in content if not listed.records.fullmatch(name))
    arrays, configs = arrays_of(content), records.configs_of(content)
    yield from (f"record {name!r} of another kind" for name in content if name not in arrays and name not in configs)
    plan = records.read_plan(asked) if records.PLAN in asked.content else None
    for record in configs.values():
        facts = record.items()
        yield from (f"fact {key!r} of {value!r}" for key, value in facts if not _may_leave(key, value, listed, plan))
    received = set(names_in(arrays_of(asked.content).get(records.MODEL, ArrayRecord())))
    for name, tensors in arrays.items():
        known = listed.tensors if name == records.SCORES else received
        yield from (f"tensor {tensor!r} in {name!r}" for tensor in tensors if tensor not in known)


def _listed(kind: str, terms: "Terms | None") -> Listed:
    """The list for answers to messages of a type; an empty one for types that are not asked here."""
    private = {} if terms is None else _private(terms)
    return {**LISTS, **private}.get(kind, Listed(re.compile("(?!)"), frozenset()))


def _private(terms: "Terms") -> Mapping[str, Listed]:
    """The shorter lists. How many crops there are is public where crops are the units, and told of nobody else."""
    fixed = {**SILENT, "steps": terms.part.steps_a_round}
    fixed |= {} if terms.part.unit == "sample" else {"crops": 0}
    return {
        MessageType.TRAIN: Listed(
            re.compile(f"report|{DELTA}"), frozenset({*TOLD, *SILENT, "steps", "crops", "norm"}), fixed=fixed
        ),
        MessageType.EVALUATE: Listed(
            SCORING, frozenset(SCORED), frozenset({"validation", "test"}), {"noise_sd": terms.score_noise}
        ),
        STATISTICS: Listed(SCORING, frozenset({"hospital", told.PASSED, "salt"}), fixed={told.PASSED: True}),
    }


def _may_leave(key: str, value: Any, listed: Listed, plan: Plan | None) -> bool:
    if key not in listed.facts:
        return False
    if key in listed.fixed and repr(value) != repr(listed.fixed[key]):  # NaN is not equal to itself
        return False
    if isinstance(value, list):
        return all(isinstance(one, int | float) for one in value)
    return isinstance(value, int | float) or (isinstance(value, str) and _is_known(key, value, plan))


def _is_known(key: str, text: str, plan: Plan | None) -> bool:
    if key in ECHOED:
        return text == getattr(plan, key) if plan is not None else key == "hospital" and bool(NAME.fullmatch(text))
    return key in TEXTS and bool(TEXTS[key].fullmatch(text))
