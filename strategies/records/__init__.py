"""The only place that builds and reads Flower records.

server → hospital   `model` tensors · `plan` scalars · `control` tensors (control variate) · `ask` scalars (evaluation)
hospital → server   `delta` tensors, `delta.GROUP` what its codec adds · `control` tensors · `report` facts
                    `scores` tensors and `report` for an evaluation · `report` {declined: code} where it declines

Over Flower's runtime the records of tensors travel packed (`packing`).
"""

import math
import re
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, fields, replace
from typing import Any, TypeVar, cast

from flwr.app import ArrayRecord, ConfigRecord, Message, RecordDict

from strategies.errors import RecordError
from strategies.records.arrays import arrays_of, from_record, record_nbytes, to_record
from strategies.records.packing import is_packed, pack
from strategies.tensors import norm
from strategies.types import Encoded, Evaluation, Plan, Report, Tensors

MODEL, PLAN, CONTROL, ASK = "model", "plan", "control", "ask"
DELTA, REPORT, SCORES, DECLINED = "delta", "report", "scores", "declined"

SAFE_CODE = re.compile(r"[a-z][a-z0-9-]{0,79}")
"""What a hospital may give as its reason: a code, never text of its own."""

T = TypeVar("T")


# --- any message ---


def packed(messages: Iterable[Message]) -> list[Message]:
    """Messages with their tensors packed, in place. A record that several share is packed once."""
    messages, done = list(messages), dict[int, tuple[ArrayRecord, ArrayRecord]]()
    for message in messages:
        for name, record in arrays_of(message.content).items():
            if id(record) not in done:
                done[id(record)] = (record, pack(record))  # the first kept too, so that its id is nobody else's
            message.content[name] = done[id(record)][1]
    return messages


def came_packed(message: Message) -> bool:
    """Whether the sender packed some record of it."""
    return any(map(is_packed, arrays_of(message.content).values()))


def tensor_nbytes(message: Message) -> int:
    """Bytes of all tensors of a message on the wire."""
    return sum(map(record_nbytes, arrays_of(message.content).values()))


def configs_of(content: RecordDict) -> dict[str, ConfigRecord]:
    """The config records of a message's content, as a plain dict: see `arrays_of`."""
    return {name: record for name, record in content.items() if isinstance(record, ConfigRecord)}


# --- the server asks, the hospital reads ---


def request(
    node: int,
    kind: str,
    plan: Plan,
    *,
    model: ArrayRecord,
    control: ArrayRecord | None = None,
    ask: Mapping[str, Any] | None = None,
    ttl_s: float,
) -> Message:
    """A message of Flower's type `kind` (train, evaluate, query…) to a node, in the plan's round."""
    content = RecordDict({MODEL: model, PLAN: ConfigRecord(dict(plan.record()))})
    if control is not None:
        content[CONTROL] = control
    if ask is not None:
        content[ASK] = ConfigRecord(dict(ask))
    return Message(content, node, kind, ttl=ttl_s, group_id=str(plan.round))


def read_plan(message: Message) -> Plan:
    """The plan of a request. Keys this version does not know are passed over: `code` tells who is older."""
    return _dataclass(Plan, _config(message, PLAN))


def read_model(message: Message) -> Tensors:
    """The model of a request, read-only."""
    return from_record(_arrays(message, MODEL))


def read_control(message: Message) -> Tensors:
    """The server's control variate, read-only; empty where none was sent."""
    return from_record(arrays_of(message.content).get(CONTROL, ArrayRecord()))


def read_ask(message: Message) -> dict[str, Any]:
    """What an evaluation asks for (`split` and whatever the application added)."""
    return dict(configs_of(message.content).get(ASK, ConfigRecord()))


# --- the hospital answers, the server reads ---


def reply(message: Message, encoded: Encoded, report: Report, control: Tensors | None = None) -> Message:
    """Answer a round: the encoded update (`{"values": delta}` where it is not encoded) and the facts.

    The plan's run and leg are given back, and a salt makes two equal reports two objects. The norm of an update that
    is not encoded is stated with it.
    """
    plan = read_plan(message)
    stated = norm(encoded["values"]) if encoded.keys() == {"values"} else None
    report = replace(report, run=plan.run, leg=plan.leg, norm=stated, salt=report.salt or secrets.token_hex(8))
    content = RecordDict({REPORT: ConfigRecord(dict(report.record()))})
    for group, tensors in encoded.items():
        content[_group_record(group)] = to_record(tensors)
    if control:
        content[CONTROL] = to_record(control)
    return Message(content, reply_to=message)


def decline(message: Message, code: str) -> Message:
    """Answer that this hospital does not take part, and why: a code such as "over-budget", never text.

    Raises ValueError where `code` is not lower-case words joined by hyphens.
    """
    if not SAFE_CODE.fullmatch(code):
        raise ValueError(f"a reason that leaves the hospital is a code like 'over-budget', got {code!r}")
    return Message(RecordDict({REPORT: ConfigRecord({DECLINED: code, "salt": secrets.token_hex(8)})}), reply_to=message)


def scores(message: Message, report: Mapping[str, Any], arrays: Tensors | None = None) -> Message:
    """Answer an evaluation with scalars and tensors, whose meaning is the application's."""
    content = RecordDict({REPORT: ConfigRecord({**report, "salt": secrets.token_hex(8)})})
    content[SCORES] = to_record(arrays or {})
    return Message(content, reply_to=message)


def declined(message: Message) -> str:
    """The code of an answer that declines; "" where it does not. Anything but a code is read as "declined"."""
    code = _config(message, REPORT).get(DECLINED, "")
    return code if code == "" or (isinstance(code, str) and SAFE_CODE.fullmatch(code)) else DECLINED


def read_report(message: Message) -> Report:
    """The facts of an answer to a round. Raises RecordError where they are missing or of the wrong type."""
    return _checked(_dataclass(Report, _with_tuple(_config(message, REPORT))))


def read_update(message: Message) -> tuple[Encoded, Tensors]:
    """The update of an answer to a round, still encoded, and the change of the control variate; read-only.

    Raises RecordError where a record is missing or a tensor cannot be read.
    """
    arrays = arrays_of(message.content)
    _arrays(message, DELTA)
    groups = {name: record for name, record in arrays.items() if name == DELTA or name.startswith(f"{DELTA}.")}
    encoded = {_group(name): from_record(record) for name, record in groups.items()}
    return encoded, from_record(arrays.get(CONTROL, ArrayRecord()))


def read_scores(message: Message) -> Evaluation:
    """An answer to an evaluation. Raises RecordError where a record is missing."""
    report = {key: value for key, value in _config(message, REPORT).items() if key != "salt"}
    return Evaluation(report, from_record(_arrays(message, SCORES)))


# --- private ---


def _group_record(group: str) -> str:
    return DELTA if group == "values" else f"{DELTA}.{group}"


def _group(record: str) -> str:
    return "values" if record == DELTA else record.removeprefix(f"{DELTA}.")


def _config(message: Message, name: str) -> dict[str, Any]:
    record = configs_of(message.content).get(name)
    if record is None:
        raise RecordError(f"the message has no record {name!r}, got {sorted(message.content)}")
    return dict(record)


def _arrays(message: Message, name: str) -> ArrayRecord:
    record = arrays_of(message.content).get(name)
    if record is None:
        raise RecordError(f"the message has no record {name!r}, got {sorted(message.content)}")
    return record


def _dataclass(kind: type[T], values: Mapping[str, Any]) -> T:
    known = fields(cast(Any, kind))
    missing = [f.name for f in known if f.name not in values and f.default is f.default_factory is MISSING]
    if missing:
        raise RecordError(f"a {kind.__name__.lower()} lacks {', '.join(missing)}, got {sorted(values)}")
    return kind(**{f.name: values[f.name] for f in known if f.name in values})


def _with_tuple(values: dict[str, Any]) -> dict[str, Any]:
    histogram = values.get("histogram", [])
    return {**values, "histogram": tuple(histogram) if isinstance(histogram, list) else histogram}


COUNTS = ("round", "patients", "crops", "steps")
NUMBERS = ("loss", "seconds", "norm", "score", "data_age_months", "memory_mb", "epsilon", "spent", "delta", "cap")
TEXTS = ("hospital", "device", "run", "leg", "code", "ledger", "salt")
LONGEST_TEXT = 200

MOST = 10**9
"""Patients, steps, seconds (32 years), megabytes, months: no hospital has more, and whatever is made of such numbers
stays finite. One that is not would make the weights and the selection of all hospitals meaningless."""

RANGES = {"score": (0, 1), "seconds": (0, MOST), "memory_mb": (0, MOST), "data_age_months": (-MOST, MOST)}
"""What weighting and selection reckon with."""

MAY_BE_NAN = ("score", "data_age_months")
"""As good as not told: who needs them says so (MissingFact)."""


def _checked(report: Report) -> Report:
    """A report of the right types and within bounds, or RecordError: a hospital's facts steer weights and selection."""
    values = vars(report)
    wrong = [name for name in COUNTS if not _is_count(values[name])]
    wrong += [name for name in NUMBERS if not _is_number(values[name]) or not _is_in_range(name, values[name])]
    wrong += [name for name in TEXTS if not _is_text(values[name])]
    wrong += [] if _is_counts(values["histogram"]) else ["histogram"]
    if wrong:
        raise RecordError(f"a report has {', '.join(wrong)} of the wrong type or out of range")
    return report


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MOST


def _is_counts(value: object) -> bool:
    return isinstance(value, tuple) and all(map(_is_count, value))


def _is_number(value: object) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


def _is_in_range(name: str, value: float | None) -> bool:
    if value is None or name not in RANGES:
        return True
    low, high = RANGES[name]
    return low <= value <= high or (name in MAY_BE_NAN and math.isnan(value))


def _is_text(value: object) -> bool:
    """Printable too: these texts stand in tables and journals, and a terminal obeys what is not."""
    return isinstance(value, str) and len(value) <= LONGEST_TEXT and value.isprintable()
