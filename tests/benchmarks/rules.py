"""Each rule that combines updates: 5, 20 and (with --full) 100 hospitals of 14 million float32 parameters.

Ours is the whole round at the server, as in `aggregation`; Flower's is its strategy's `aggregate_train`.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np
from flwr.app import ArrayRecord, Message, MetricRecord, RecordDict
from flwr.serverapp import strategy as flower

from strategies.records.arrays import from_record
from strategies.types import Tensors
from tests.benchmarks import aggregation
from tests.benchmarks.clock import interleaved
from tests.benchmarks.row import Row, at_most, compared

MODEL = "resnet10"
"""At full width: 14.4 million parameters."""

DISTINCT = 5
"""Updates; each is sent by several hospitals. Together they are larger than any cache."""

FLOWERS: dict[str, Callable[[], flower.FedAvg]] = {
    "mean": flower.FedAvg,
    "median": flower.FedMedian,
    "krum": partial(flower.Krum, num_malicious_nodes=1),
}
"""Flower has no geometric median."""

KEEPS = ("median", "krum", "geometric_median")
"""Rules that need all updates at once."""

WEISZFELD_PASSES = 4
"""Over all updates; Pillutla et al. find 3 to 5 enough. Ours iterates on inner products until nothing moves."""

MEMORY_HOSPITALS = 20

MANY = 50
"""Hospitals from which on Flower's median and Krum are not run: they hold every update twice, 12 GB for 100."""


def rows(full: bool) -> Iterator[Row]:
    """Time against memory bandwidth (mean), Flower's own and the paper's loop; memory."""
    logging.getLogger("flwr").setLevel(logging.ERROR)
    model = aggregation.full_model(MODEL)
    updates = [aggregation.update_record(model, number) for number in range(DISTINCT)]
    for hospitals in (5, 20, 100) if full else (5, 20):
        yield from _times(model, updates, hospitals, full=full)
    yield from (_memory(rule) for rule in KEEPS)


def _times(model: Tensors, updates: Sequence[ArrayRecord], hospitals: int, *, full: bool) -> Iterator[Row]:
    replies = aggregation.replies_of(model, updates, hospitals)
    size = f"{hospitals} hospitals × {aggregation.parameters(model) / 1e6:.1f} M"
    for rule in ("mean", *KEEPS):
        aggregation.strategy(rule)  # composing it is no part of a round
        contenders: dict[str, Callable[[], object]] = {
            "ours": lambda rule=rule: aggregation.ours(model, replies, rule),  # type: ignore[misc]
            **_references(rule, model, updates, hospitals),
        }
        repeats = (9 if rule == "mean" else 3) if full else (5 if rule == "mean" else 1)
        took = interleaved(contenders, repeats=repeats)
        if len(took) == 1:
            yield Row(
                f"{rule} of {hospitals}, time", took["ours"].wall, None, None, "s", "–", None, f"{size}, by itself"
            )
            continue
        for reference, target in TARGETS[rule].items():
            yield compared(
                f"{rule} of {hospitals}, time against {reference}",
                ours=took["ours"].wall,
                reference=took[reference].wall,
                unit="s",
                target=at_most(target),
                note=f"{size}, medians of {repeats}; {WHAT[reference]}",
            )


TARGETS = {
    "mean": {"read, add, apply": 1.5, "Flower": 1.0},
    "median": {"Flower": 1.0},
    "krum": {"Flower": 1.0},
    "geometric_median": {"plain Weiszfeld": 1.0},
}

WHAT = {
    "read, add, apply": "each tensor added to a sum from where it lies, the mean of it added to the model; ours also "
    "checks every norm, opens a second sum for updates of other size, and puts both together",
    "Flower": "flwr 1.41, aggregate_train of its own strategy",
    "plain Weiszfeld": f"numpy, {WEISZFELD_PASSES} passes over all updates (Pillutla et al. 2022, alg. 2)",
}


def _references(
    rule: str, model: Tensors, updates: Sequence[ArrayRecord], hospitals: int
) -> dict[str, Callable[[], object]]:
    if rule == "geometric_median":
        return {"plain Weiszfeld": lambda: _weiszfeld(updates, hospitals)}
    if rule != "mean" and hospitals >= MANY:
        return {}
    asked = aggregation.requests(model, hospitals)
    theirs: dict[str, Callable[[], object]] = {
        "Flower": lambda: FLOWERS[rule]().aggregate_train(1, _for_flower(asked, updates))
    }
    if rule == "mean":
        theirs["read, add, apply"] = lambda: aggregation.read_add_and_apply(model, updates, hospitals)
    return theirs


def _for_flower(asked: Sequence[Message], updates: Sequence[ArrayRecord]) -> list[Message]:
    """Records of their own around the same arrays: Flower empties the records that it has read."""
    return [
        Message(
            RecordDict(
                {
                    "arrays": ArrayRecord(dict(updates[number % len(updates)])),
                    "metrics": MetricRecord({"num-examples": 10 + number}),
                }
            ),
            reply_to=request,
        )
        for number, request in enumerate(asked)
    ]


def _weiszfeld(updates: Sequence[ArrayRecord], hospitals: int) -> Tensors:
    """The loop of the paper: weights from distances, then their mean, again and again."""
    read = [from_record(updates[number % len(updates)]) for number in range(hospitals)]
    weights = np.full(hospitals, 1 / hospitals)
    for _ in range(WEISZFELD_PASSES):
        centre = {
            name: np.sum([np.float32(w) * one[name] for w, one in zip(weights, read, strict=True)], axis=0)
            for name in read[0]
        }
        squares = [sum(float(np.sum((one[name] - centre[name]) ** 2)) for name in one) for one in read]
        inverse = 1 / np.maximum(np.sqrt(squares), 1e-6)
        weights = inverse / inverse.sum()
    return centre


def _memory(rule: str) -> Row:
    extra = aggregation.extra_memory(MEMORY_HOSPITALS, rule, MODEL)
    kept = MEMORY_HOSPITALS * extra["model_mb"]
    return compared(
        f"{rule} of {MEMORY_HOSPITALS}, memory beyond the updates",
        ours=extra["extra_mb"] - kept,
        reference=extra["model_mb"],
        unit="MB",
        target=at_most(3.0),
        note=f"most resident memory of a round in a process of its own, less the model it began with and the "
        f"{MEMORY_HOSPITALS} updates ({kept:.0f} MB) that the rule must hold; reference: one model",
    )
