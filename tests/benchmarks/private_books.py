"""The books of a private round: what ε is after one more of it, and one more line of the ledger on disk.

References are fixed: what a round may take beside training that takes seconds.
"""

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from app.site.budget import Budget, Reservation
from strategies.privacy.accountant import epsilon
from strategies.privacy.events import DpSgd
from strategies.privacy.ledger import Request
from tests.benchmarks.row import Row, at_most, compared

ACCOUNTANT_MS, APPEND_MS = 50.0, 10.0
ROUNDS = 50
LINES = 600
"""Of the ledger: two for a round, so six runs of fifty rounds."""
DELTA = 1e-5


def rows(full: bool = False) -> Iterator[Row]:
    """The accountant, then the ledger."""
    yield _row("accountant, a round", _accountant_ms(), ACCOUNTANT_MS, f"median of rounds 2 to {ROUNDS}, all different")
    yield _row(
        "ledger, a line", _append_ms(2 * ROUNDS if full else 20), APPEND_MS, f"at {LINES} lines; keep, sync, sign"
    )


def _row(name: str, took_ms: float, allowed_ms: float, note: str) -> Row:
    return compared(name, ours=took_ms, reference=allowed_ms, unit="ms", target=at_most(1.0), note=note)


def _accountant_ms() -> float:
    events = [_event(noise=2.0 + round / ROUNDS) for round in range(ROUNDS)]
    epsilon(events[:1], DELTA)
    return _median_ms([partial(epsilon, events[:n], DELTA) for n in range(2, ROUNDS + 1)])


def _append_ms(repeats: int) -> float:
    with tempfile.TemporaryDirectory() as folder:
        budget = Budget(Path(folder) / "state", Path(folder) / "ledger-key", "north")
        for round in range(LINES // 2):
            budget.commit(_reserved(budget, round), b"")
        waiting = [_reserved(budget, LINES + round) for round in range(repeats)]
        return _median_ms([partial(budget.commit, reservation, b"") for reservation in waiting])


def _reserved(budget: Budget, round: int) -> Reservation:
    return budget.reserve(Request("run", "", round, "digest"), [_event(noise=2.0)], cap=None, delta=DELTA)


def _event(noise: float) -> DpSgd:
    return DpSgd(unit="patient", noise_multiplier=noise, sample_rate=0.1, steps=10, clip=1.0)


def _median_ms(works: Sequence[Callable[[], object]]) -> float:
    took = []
    for work in works:
        started = time.perf_counter()
        work()
        took.append(time.perf_counter() - started)
    return 1000 * statistics.median(took)
