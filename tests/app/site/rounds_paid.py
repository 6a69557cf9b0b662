"""Rounds on a hospital's ledger, in short words for the tests of it."""

import pytest

from app.site.budget import NO_LIMITS, BudgetError
from strategies.privacy.events import DpSgd
from strategies.privacy.ledger import Request

EVENTS = [DpSgd(unit="patient", noise_multiplier=2.0, sample_rate=0.1, steps=20, clip=1.0)]
DELTA = 1e-5


def request(round=1, run="run", digest="d"):
    return Request(run, "", round, digest)


def reserve(budget, cap=8.0, events=EVENTS, plan=None, limits=NO_LIMITS, **asked):
    return budget.reserve(request(**asked), events, cap=cap, delta=DELTA, plan=plan, limits=limits)


def answer(budget, reply=b"noised", **asked):
    return budget.commit(reserve(budget, **asked), reply)


def rounds_spent(budget):
    return [entry.round for entry in budget.read().reserved]


def refused(code, work, *args, **named):
    with pytest.raises(BudgetError) as caught:
        work(*args, **named)
    assert caught.value.code == code
    return str(caught.value)


def path_of(budget):
    return budget.state_dir / "ledger.jsonl"


def edit(budget, change):
    lines = path_of(budget).read_text().splitlines(keepends=True)
    path_of(budget).write_text("".join(change(lines)))
