"""What the server does with the replies of a round: 20 hospitals, 33 million float32 parameters each.

Ours is the whole of it: read the record, check the report, compare sizes, weigh, add, and in the end apply the mean to
the model. Replies lie in memory, as a message that was pulled does.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import cache

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.serverapp.strategy.strategy_utils import aggregate_arrayrecords
from flwr.supercore.task_identity import TaskIdentity

from app.config import build, compose
from models.parameters import get_tensors
from strategies import Course, Federated, records
from strategies.exchange.post import Answer
from strategies.records.arrays import from_record, to_record
from strategies.round import Round
from strategies.tensors import norm
from strategies.types import Plan, Report, ServerState, Tensors
from tests.benchmarks import memory_of_a_round
from tests.benchmarks.clock import interleaved
from tests.benchmarks.row import Row, at_most, compared

HOSPITALS = 20
PAYLOADS = 4
"""Distinct updates; each is sent by several hospitals. One is larger than any cache, so none is found there again."""

SIZES = (1.0, 1.2, 1.5, 1.9)
"""Norms of the updates, relative: hospitals differ, and the gate sorts updates by powers of two."""


def rows(full: bool) -> Iterator[Row]:
    """Time against two references, and memory."""
    model, updates = full_model(), _updates(HOSPITALS if full else PAYLOADS)
    replies = replies_of(model, updates, HOSPITALS)
    contenders: dict[str, Callable[[], object]] = {
        "ours": lambda: ours(model, replies),
        "read and add": lambda: read_and_add(updates, HOSPITALS),
        "Flower": lambda: _flower(updates),
    }
    took = interleaved(contenders, repeats=15 if full else 7)
    note = (
        f"{HOSPITALS} replies ({len(updates)} distinct) of {parameters(model) / 1e6:.1f} M float32, resnet18 at full "
        f"width; medians of {len(took['ours'].times)}, ours {took['ours'].spread}"
    )
    for reference, target in (("read and add", at_most(1.5)), ("Flower", at_most(1.0))):
        yield compared(
            f"aggregation, time against {reference}",
            ours=took["ours"].wall,
            reference=took[reference].wall,
            unit="s",
            target=target,
            note=f"{note}; {WHAT[reference]}",
        )
    yield from _memory_rows((HOSPITALS, 5 * HOSPITALS) if full else (HOSPITALS,))


WHAT = {
    "read and add": "the reference adds each tensor to a sum, from where it lies: no weights, no checks, no step",
    "Flower": "flwr 1.41 aggregate_arrayrecords; aim ≤ 0.33",
}


def _memory_rows(counts: Sequence[int]) -> Iterator[Row]:
    few = extra_memory(5)
    for count in counts:
        extra = extra_memory(count)
        yield compared(
            f"aggregation, extra memory with {count} hospitals",
            ours=extra["extra_mb"],
            reference=extra["model_mb"],
            unit="MB",
            target=at_most(3.0),
            note="most resident memory of a process of its own, beyond the model that the round began with and the "
            f"reply in hand; reference: one model. With 5 hospitals: {few['extra_mb'] / few['model_mb']:.2f} models",
        )


def extra_memory(hospitals: int, aggregate: str = "mean", model: str = "resnet18") -> dict[str, float]:
    """What a round needs beside its model, as `memory_of_a_round` prints it."""
    command = [sys.executable, "-m", memory_of_a_round.__name__, str(hospitals), aggregate, model]
    # Freed arrays go back to the system at once, so that resident memory is what is really held.
    env = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    return dict(json.loads(done.stdout))


# --- contenders ---


def ours(model: Tensors, replies: Sequence[Answer], aggregate: str = "mean") -> Tensors:
    """The model after a round with these replies."""
    round = open_round(model, len(replies), aggregate)
    for answer in replies:
        round.take(answer)
    state, facts = round.close()
    if facts.refused or len(facts.weights) != len(replies):
        raise RuntimeError(f"not all replies were used: {facts.refused}")
    return state.model


def read_add_and_apply(model: Tensors, updates: Sequence[ArrayRecord], hospitals: int) -> Tensors:
    """The same, and the step that makes a model of the sum: what comes out is what comes out of `ours`."""
    total = read_and_add(updates, hospitals)
    for name, tensor in total.items():
        np.multiply(tensor, np.float32(1 / hospitals), out=tensor)
        np.add(tensor, model[name], out=tensor)
    return {**model, **total}


def read_and_add(updates: Sequence[ArrayRecord], hospitals: int) -> Tensors:
    """What memory bandwidth alone allows."""
    total: dict[str, np.ndarray] = {}
    for hospital in range(hospitals):
        for name, tensor in from_record(updates[hospital % len(updates)]).items():
            if name in total:
                np.add(total[name], tensor, out=total[name])
            else:
                total[name] = tensor.copy()
    return total


def _flower(updates: Sequence[ArrayRecord]) -> ArrayRecord:
    weighed = [
        RecordDict({"arrays": updates[hospital % len(updates)], "metrics": MetricRecord({"patients": 10 + hospital})})
        for hospital in range(HOSPITALS)
    ]
    return aggregate_arrayrecords(weighed, "patients")


# --- a round without a network ---


@cache
def strategy(aggregate: str = "mean") -> Federated:
    """FedAvg as configured, but for the rule that combines."""
    made: Federated = build(compose([f"strategy/aggregate={aggregate}"])["strategy"])
    return made


def open_round(model: Tensors, hospitals: int, aggregate: str = "mean") -> Round:
    """Round 1 over `hospitals` hospitals."""
    roster = {_name(number): number + 1 for number in range(hospitals)}
    plan = Plan(run="bench", leg="", round=0, rounds=1, hospital="", seed=0, fold=-1)
    return Round(
        strategy(aggregate), Course(plan, lambda grid: roster, ServerState(0, model)), ServerState(0, model), roster
    )


def reply_to(request: Message, update: ArrayRecord, number: int) -> Answer:
    """What hospital `number` answers: `update`, and a report with its own number of patients."""
    report = Report(hospital=_name(number), round=1, patients=10 + number, crops=10 + number, steps=1, loss=0.5)
    message = records.reply(request, {"values": {}}, report)
    content = RecordDict({name: record for name, record in message.content.items() if isinstance(record, ConfigRecord)})
    content[records.DELTA] = update
    content[records.REPORT]["norm"] = norm(from_record(update))
    return Answer(report.hospital, 1, Message(content, reply_to=request))


def requests(model: Tensors, hospitals: int) -> list[Message]:
    """What the hospitals were asked, in the order of their numbers; the model's bytes are not kept."""
    TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, 1, 1
    few = {name: tensor[:0] for name, tensor in model.items()}
    asked = open_round(few, hospitals).requests()
    for number, message in enumerate(asked.values()):
        message.metadata.__dict__["_message_id"] = f"request-{number}"
    return [asked[_name(number)] for number in range(hospitals)]


def update_record(model: Tensors, number: int) -> ArrayRecord:
    """Update `number`: noise of the model's shapes, of its own size."""
    rng = np.random.default_rng(number)
    size = np.float32(1e-3 * SIZES[number % len(SIZES)])
    noise = {name: size * rng.standard_normal(tensor.shape, np.float32) for name, tensor in model.items()}
    return to_record(noise)


def full_model(name: str = "resnet18") -> Tensors:
    """At full width: ResNet18 has 33 million parameters, ResNet10 14."""
    return get_tensors(build(compose([f"model={name}", "model.widths=[64,128,256,512]"])["model"]))


def _updates(count: int) -> list[ArrayRecord]:
    model = full_model()
    return [update_record(model, number) for number in range(count)]


def replies_of(model: Tensors, updates: Sequence[ArrayRecord], hospitals: int) -> list[Answer]:
    """What that many hospitals answer, each with one of the updates."""
    return [
        reply_to(request, updates[number % len(updates)], number)
        for number, request in enumerate(requests(model, hospitals))
    ]


def _name(number: int) -> str:
    return f"hospital-{number:03d}"


def parameters(model: Tensors) -> int:
    """How many."""
    return sum(tensor.size for tensor in model.values())
