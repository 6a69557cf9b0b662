"""The last look at what leaves a hospital: numbers under names that stand here or came with the question, no more.

Whatever is not in these lists makes the answer a refusal (`unlisted-content`): a key, a record or a tensor by another
name, and any text but the few of a fixed form. No patient's id, no UID, no file name and no header's text has a place
in an answer, so none can be forgotten to be removed.

A part that sends something new adds it here, with the reason why it tells of no patient.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any

from flwr.app import ArrayRecord, Context, Message

from app.site import told
from app.site.shield import Declined, Handler
from strategies import records
from strategies.records.arrays import arrays_of, names_in
from strategies.types import Plan, Report

RECORDS = re.compile(r"report|scores|control|hello|delta(\.(values|positions|left|right|scale))*")
"""Records of an answer; a delta's groups are named by its codecs (`strategies.wire`), one after another."""

FACTS = frozenset({field.name for field in fields(Report)}) | told.keys() | frozenset({
    "test_patients", "test_samples", "train_samples", "noise_sd", records.DECLINED,
})  # fmt: skip
"""Keys of reports, of scorings, of statistics and of refusals."""

SCORES = frozenset({
    f"{own}{name}" for own in ("", "own_") for name in ("validation", "test", "replicates", "baseline")
})  # fmt: skip
"""Count arrays of a scoring."""

TEXTS: Mapping[str, re.Pattern[str]] = {
    "code": re.compile(r"[0-9a-f]{0,64}"),
    "device": re.compile(r"cpu|cuda(:\d+)?( [\w ./()-]{0,80})?"),
    "ledger": re.compile(r"(\d+:[0-9a-f]{0,64})?"),
    "salt": re.compile(r"[0-9a-f]{0,32}"),
    records.DECLINED: records.SAFE_CODE,
}
"""Text of a fixed form: hardware, hashes, codes."""

ECHOED = ("hospital", "run", "leg")
"""Text that the question brought, given back as it was."""

NAME = re.compile(r"[\w .-]{1,64}")
"""A hospital's own name, where it is asked for it."""


def kept(handler: Handler) -> Handler:
    """`handler`, whose answer is looked at before it leaves. Raises Declined where something is not listed."""

    def careful(message: Message, context: Context) -> Message:
        reply = handler(message, context)
        for fault in unlisted(message, reply):
            raise Declined("unlisted-content", f"an answer with {fault}, which nobody listed, stays here")
        return reply

    return careful


def unlisted(asked: Message, reply: Message) -> Iterator[str]:
    """Whatever of a reply is not in the lists, in words for the hospital's own log."""
    content = reply.content
    yield from (f"record {name!r}" for name in content if not RECORDS.fullmatch(name))
    arrays, configs = arrays_of(content), records.configs_of(content)
    yield from (f"record {name!r} of another kind" for name in content if name not in arrays and name not in configs)
    plan = records.read_plan(asked) if records.PLAN in asked.content else None
    for record in configs.values():
        yield from (f"fact {key!r} of {value!r}" for key, value in record.items() if not _may_leave(key, value, plan))
    received = set(names_in(arrays_of(asked.content).get(records.MODEL, ArrayRecord())))
    for name, tensors in arrays.items():
        listed = SCORES if name == records.SCORES else received
        yield from (f"tensor {tensor!r} in {name!r}" for tensor in tensors if tensor not in listed)


def _may_leave(key: str, value: Any, plan: Plan | None) -> bool:
    if key not in FACTS:
        return False
    if isinstance(value, list):
        return all(isinstance(one, int | float) for one in value)
    return isinstance(value, int | float) or (isinstance(value, str) and _is_known(key, value, plan))


def _is_known(key: str, text: str, plan: Plan | None) -> bool:
    if key in ECHOED:
        return text == getattr(plan, key) if plan is not None else key == "hospital" and bool(NAME.fullmatch(text))
    return key in TEXTS and bool(TEXTS[key].fullmatch(text))
