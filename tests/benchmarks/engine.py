"""What the round engine costs a hospital: 3, 30 and 300 that answer at once, with a tiny model."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from flwr.app import Context, Message

from app.config import build, compose
from app.local_grid import LocalGrid
from models.norm import tensor_kinds
from models.parameters import get_tensors
from strategies import Course, Federated, records
from strategies.types import Plan, Report, ServerState, Tensors
from tests.benchmarks.clock import interleaved
from tests.benchmarks.row import Row, at_most, compared

HOSPITALS = (3, 30, 300)
ROUNDS = 10

LINEAR = 1.25
"""Most that a hospital may cost more among ten times as many: 1 is linear, 10 would be quadratic."""


def rows(full: bool) -> Iterator[Row]:
    """Milliseconds a hospital and round, among 300 and among 30: equal where it grows linearly."""
    model = build(compose(["model=tiny", "model.widths=[4,4,8,8]"])["model"])
    start, kinds = get_tensors(model), tensor_kinds(model)
    strategy: Federated = build(compose()["strategy"])
    took = interleaved(
        {str(n): (lambda n=n: _run(strategy, start, kinds, n)) for n in HOSPITALS},  # type: ignore[misc]
        repeats=9 if full else 3,
    )
    each = {n: 1e3 * took[str(n)].wall / ROUNDS / n for n in HOSPITALS}
    rounds = ", ".join(f"{n} hospitals {1e3 * took[str(n)].wall / ROUNDS:.1f} ms" for n in HOSPITALS)
    for few, many in ((3, 30), (30, 300)):
        yield compared(
            f"engine, a hospital's share of a round among {many}",
            ours=each[many],
            reference=each[few],
            unit="ms",
            target=at_most(LINEAR),
            note=f"a round of {rounds}, whose answers are ready made: messages, checks, weights, mean and step; "
            f"medians of {len(took['3'].times)}; reference: the same among {few}",
        )


def _run(strategy: Federated, start: Tensors, kinds: dict[str, str], hospitals: int) -> None:
    plan = Plan(run="bench", leg="", round=0, rounds=ROUNDS, hospital="", seed=0, fold=-1)
    roster = {f"hospital-{number:03d}": number + 1 for number in range(hospitals)}
    course = Course(plan, lambda grid: roster, ServerState(0, start), kinds=kinds, deadline_s=600.0)
    update = {name: np.full_like(tensor, 1e-3) for name, tensor in start.items()}
    grid = LocalGrid(lambda message, context: _answer(message, context, update), nodes=hospitals, run_config={})
    state, _ = strategy.run(grid, course)
    if state.round != ROUNDS or state.facts["failed"]:
        raise RuntimeError(f"the engine stopped in round {state.round}")


def _answer(message: Message, context: Context, update: Tensors) -> Message:
    plan = records.read_plan(message)
    report = Report(hospital=plan.hospital, round=plan.round, patients=10, crops=10, steps=1, loss=0.5)
    return records.reply(message, {"values": update}, replace(report, seconds=0.0))
