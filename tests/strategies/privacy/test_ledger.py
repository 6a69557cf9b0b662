import hashlib
import math
from dataclasses import replace

import pytest

from strategies.errors import PartError
from strategies.privacy import ledger
from strategies.privacy.accountant import RdpFilter, epsilon
from strategies.privacy.chain import sign
from strategies.privacy.events import DpSgd, HistogramRelease
from strategies.privacy.ledger import Ledger, LedgerError, Request

DELTA = 1e-5
KEY = bytes(32)
ROUND = DpSgd(unit="patient", noise_multiplier=2.0, sample_rate=0.1, steps=20, clip=1.0)
LAST = HistogramRelease(unit="patient", noise_multiplier=4.0, bins=200, population="test")


def request(run="a", round=1, leg="", digest="d"):
    return Request(run, leg, round, digest)


class Writer:
    """Lines as `app.site.budget` would write them."""

    def __init__(self, cap=8.0):
        self.lines = []
        self.add("opened", ledger.opening("north", cap, DELTA))

    def add(self, kind, body):
        self.lines.append(sign(KEY, kind, body, after=self.lines, at="2026-03-01T12:00:00+00:00"))
        return self

    def plan(self, run, *events):
        return self.add("planned", ledger.planning(run, events))

    def reserve(self, *events, **asked):
        return self.add("reserved", ledger.reserving(request(**asked), events))

    def rounds(self, run, count):
        for number in range(1, count + 1):
            self.reserve(ROUND, run=run, round=number)
        return self

    def ledger(self):
        return Ledger(tuple(self.lines))


def test_a_new_ledger_is_one_hospitals_and_has_spent_nothing():
    first, second = Writer().ledger(), Writer().ledger()
    assert first.hospital == "north"
    assert first.cohort != second.cohort
    assert first.spent(DELTA) == first.spent_if_planned(DELTA) == 0.0
    assert first.left(8.0, DELTA) == 8.0


def test_reservations_cost_whether_or_not_they_were_answered():
    book = Writer().reserve(ROUND)
    before = book.ledger().spent(DELTA)
    assert before > 0
    book.add("committed", ledger.committing(1, b"reply"))
    assert book.ledger().spent(DELTA) == before
    assert book.ledger().reserved[0].reply == hashlib.sha256(b"reply").hexdigest()


def test_all_runs_add_up_in_the_filter():
    book = Writer().rounds("a", 5).rounds("b", 5).ledger()
    assert book.spent(DELTA) == RdpFilter(4, DELTA).spent([ROUND] * 10)
    assert book.spent_if_planned(DELTA) == pytest.approx(epsilon([ROUND] * 10, DELTA))
    assert book.spent(DELTA) > book.spent_if_planned(DELTA)


def test_what_is_read_back_is_what_was_reserved():
    book = Writer().reserve(ROUND, ROUND, LAST, round=7, leg="fold-2").ledger()
    (entry,) = book.reserved
    assert entry.events == (ROUND, ROUND, LAST)
    assert (entry.run, entry.leg, entry.round, entry.number, entry.reply) == ("a", "fold-2", 7, 1, None)
    assert entry.request == request(round=7, leg="fold-2").key


@pytest.mark.parametrize("differs", [{"run": "b"}, {"leg": "x"}, {"round": 2}, {"digest": "e"}])
def test_requests_that_differ_in_anything_are_different_requests(differs):
    book = Writer().reserve(ROUND).ledger()
    assert book.latest(request()) is not None
    assert book.latest(request(**differs)) is None


def test_the_latest_reservation_of_a_request_counts():
    book = Writer().reserve(ROUND).reserve(ROUND).ledger()
    assert book.latest(request()).number == 2
    assert len(book.events()) == 2


def test_a_run_within_its_plan_is_charged_by_pld_while_it_is_alone():
    book = Writer().plan("a", *[ROUND] * 30).rounds("a", 10).ledger()
    assert book.after([ROUND], DELTA, "a") == pytest.approx(epsilon([ROUND] * 11, DELTA))


@pytest.mark.parametrize(
    "book",
    [
        Writer().rounds("a", 10),
        Writer().plan("a", *[ROUND] * 10).rounds("a", 10),
        Writer().plan("a", *[replace(ROUND, steps=19)] * 30).rounds("a", 10),
        Writer().rounds("b", 1).plan("a", *[ROUND] * 30).rounds("a", 10),
        Writer().plan("a", *[ROUND] * 30).rounds("a", 10).rounds("b", 1),
    ],
    ids=["no plan", "past the plan", "another plan", "after another run", "another run since"],
)
def test_anything_else_is_charged_by_the_filter(book):
    book = book.ledger()
    assert book.after([ROUND], DELTA, "a") == RdpFilter(4, DELTA).spent([*book.events(), ROUND])


def test_after_a_planned_run_the_filter_charges_the_second_for_both():
    book = Writer().plan("a", *[ROUND] * 30).rounds("a", 30).ledger()
    assert book.after([ROUND], DELTA, "b") == RdpFilter(4, DELTA).spent([ROUND] * 31)


def test_rounds_left_is_the_last_number_that_fits():
    book = Writer().plan("a", *[ROUND] * 500).rounds("a", 10).ledger()
    more = book.rounds_left([ROUND], 8.0, DELTA, "a")
    assert book.after([ROUND] * more, DELTA, "a") <= 8.0 < book.after([ROUND] * (more + 1), DELTA, "a")
    assert book.rounds_left([ROUND], 0.1, DELTA, "a") == 0


def test_a_plan_lets_more_rounds_fit_than_choosing_as_one_goes():
    planned, unplanned = Writer().plan("a", *[ROUND] * 500).ledger(), Writer().ledger()
    assert planned.rounds_left([ROUND], 8.0, DELTA, "a") > unplanned.rounds_left([ROUND], 8.0, DELTA, "a")


def test_costs_are_told_by_run_and_kind():
    book = Writer().rounds("a", 3).reserve(LAST, run="b", round=1).reserve(ROUND, LAST, run="b", round=2).ledger()
    a, b = book.costs(DELTA)
    assert (a.run, a.rounds, a.unit, set(a.kinds)) == ("a", 3, "patient", {"dp-sgd"})
    assert (b.run, b.rounds, set(b.kinds)) == ("b", 2, {"dp-sgd", "histogram"})
    assert a.epsilon == pytest.approx(epsilon([ROUND] * 3, DELTA))
    assert b.kinds["histogram"] == pytest.approx(epsilon([LAST] * 2, DELTA))


def test_units_of_two_kinds_are_named_together():
    book = Writer().reserve(ROUND, replace(ROUND, unit="sample")).ledger()
    assert book.costs(DELTA)[0].unit == "patient + sample"


def test_nothing_is_left_of_a_cap_that_was_passed():
    assert Writer().rounds("a", 30).ledger().left(1.0, DELTA) == 0.0
    assert Writer().reserve(replace(ROUND, randomness="fixed seed")).ledger().spent(DELTA) == math.inf


def test_the_filters_order_is_fixed_when_the_ledger_is_opened():
    assert Writer(cap=3.2).lines[0].body["order"] == 7
    assert Writer(cap=None).lines[0].body["order"] == Writer(cap=math.inf).lines[0].body["order"] == 4
    with pytest.raises(PartError, match="epsilon_cap"):
        Writer(cap=0.0)


def test_a_ledger_of_another_schema_is_refused():
    lines = [sign(KEY, "opened", {"schema": 2, "hospital": "north"}, after=(), at="")]
    with pytest.raises(LedgerError, match="schema 1"):
        _ = Ledger(tuple(lines)).hospital
