import time
from dataclasses import replace

import numpy as np
import pytest

from strategies import records
from strategies.types import Refusal
from strategies.weighting import Recency
from tests.strategies.fakes import (
    ZERO,
    FakeGrid,
    Hospital,
    Late,
    codes,
    course,
    federated,
    raising,
    refusing,
    run,
    silent,
    vector,
)


@pytest.mark.parametrize(
    ("handler", "code"), [(refusing("over-budget"), "over-budget"), (raising, "app-raised"), (silent, "timeout")]
)
def test_the_round_goes_on_without_a_hospital_that_fails(handler, code):
    state, _, (facts,), _ = run({"A": Hospital(vector(1, 2)), "B": handler})
    np.testing.assert_allclose(state.model["w"], [1, 2])
    assert codes(facts) == {"B": code}
    assert facts.weights == {"A": 1.0}


def test_an_unavailable_node_is_the_hospital_that_was_asked_and_not_the_superlink_that_says_so():
    _, _, (facts,), _ = run({"A": Hospital(vector(1, 2)), "B": silent}, dead=["B"])
    assert codes(facts) == {"B": "node-unavailable"}


def test_a_node_that_flower_does_not_know_any_more_is_named():
    grid = FakeGrid({10: Hospital(vector(1, 2))})
    seen = []
    federated().run(grid, course({"A": 10, "B": 11}, ZERO, after_round=lambda state, facts: seen.append(facts)))
    assert codes(seen[0]) == {"B": "node-unknown"}


def test_a_round_waits_no_longer_than_its_deadline():
    began = time.monotonic()
    _, _, (facts,), _ = run({"A": Hospital(vector(1, 2)), "B": silent}, deadline_s=0.1)
    assert time.monotonic() - began < 1
    assert codes(facts) == {"B": "timeout"}


def test_a_slow_hospital_within_the_deadline_counts():
    state, _, (facts,), _ = run({"A": Hospital(vector(1, 2)), "B": Late(Hospital(vector(3, 2)), polls=3)})
    np.testing.assert_allclose(state.model["w"], [2, 2])
    assert not facts.refused


def test_a_failed_quorum_leaves_the_model_and_says_so():
    state, _, (facts,), _ = run({"A": Hospital(vector(1, 2)), "B": silent}, quorum=2, model=vector(7, 7))
    np.testing.assert_array_equal(state.model["w"], [7, 7])
    assert (facts.failed, facts.weights, state.round) == ("quorum", {}, 1)


def test_three_rounds_without_a_quorum_stop_the_run():
    state, stop, facts, _ = run({"A": refusing("over-budget")}, rounds=10)
    assert (stop.reason, state.round, len(facts)) == ("quorum", 3, 3)


def test_a_good_round_starts_the_count_of_failed_ones_anew():
    def now_and_then(message):
        return Hospital(vector(1, 2))(message) if records.read_plan(message).round % 3 == 0 else None

    _, stop, facts, _ = run({"A": now_and_then}, rounds=6, strikes=9, deadline_s=0.05)
    assert (stop.reason, [f.failed for f in facts]) == ("rounds", ["quorum", "quorum", ""] * 2)


def test_a_round_waits_a_bounded_time_for_hospitals_to_come():
    roster, grid = {}, FakeGrid({10: Hospital(vector(1, 2))})
    calls = []

    def come_late(grid):
        calls.append(1)
        return {"A": 10} if len(calls) > 1 else roster

    plain = course({}, ZERO, wait_s=5.0)
    state, _ = federated().run(grid, replace(plain, roster=come_late))
    assert (state.round, len(calls)) == (1, 2)
    np.testing.assert_allclose(state.model["w"], [1, 2])


def test_nobody_is_asked_where_too_few_are_there():
    a = Hospital(vector(1, 2))
    _, stop, facts, _ = run({"A": a}, quorum=2, rounds=5)
    assert (stop.reason, a.plans, facts[0].asked) == ("quorum", [], ())


def test_a_hospital_that_fails_three_times_is_left_out_and_let_in_again():
    _, _, facts, _ = run({"A": Hospital(vector(1, 2)), "B": raising}, rounds=8, strikes=3, bench=2)
    assert [f.asked == ("A", "B") for f in facts] == [True, True, True, False, False, True, False, False]
    assert [f.benched for f in facts][3:6] == [("B",), ("B",), ()]


def test_nobody_is_left_out_where_the_quorum_needs_them():
    _, _, facts, _ = run({"A": Hospital(vector(1, 2)), "B": raising}, rounds=3, strikes=1, quorum=2)
    assert all(f.asked == ("A", "B") for f in facts)


# --- late answers ---


def late_run(**settings):
    """B's answer to round 1 is ready when round 2 begins."""
    done = []

    def slow_once(message):
        plan = records.read_plan(message)
        if plan.round == 1 and not done:
            return None
        return Hospital(vector(10, 10))(message)

    def after_round(state, facts):
        done.append(state.round)

    hospitals = {"A": Hospital(vector(1, 1)), "B": slow_once}
    return run(hospitals, rounds=2, deadline_s=0.05, after_round=after_round, **settings)


def test_a_late_answer_is_counted_and_dropped():
    _, _, facts, _ = late_run()
    assert codes(facts[0]) == {"B": "timeout"}
    assert Refusal("B", 1, "late") in facts[1].refused


def test_a_late_answer_within_max_staleness_counts_by_its_age():
    state, _, facts, _ = late_run(max_staleness=1, strategy=federated(weighting=Recency(rate=np.log(3))))
    # round 1: A alone; round 2: A has factor 1, the late B e^(−ln 3) = 1/3: weights 3/4 and 1/4
    assert facts[1].late == {"B": 1}
    assert facts[1].asked == ("A",)
    assert facts[1].weights == pytest.approx({"A": 0.75, "B": 0.25})
    np.testing.assert_allclose(state.model["w"], 1 + 0.75 * 1 + 0.25 * 10, rtol=1e-6)


def test_where_all_are_late_the_next_round_waits_for_them():
    done, asked, polls_in_round_two = [], set(), []

    def slow(message):
        asked.add(records.read_plan(message).round)
        polls_in_round_two.extend(done)
        return Hospital(vector(1, 1))(message) if len(polls_in_round_two) > 6 else None

    _, _, facts, _ = run(
        {"A": slow, "B": slow},
        rounds=2,
        deadline_s=0.3,
        max_staleness=1,
        quorum=2,
        after_round=lambda state, fact: done.append(state.round),
    )
    assert [fact.failed for fact in facts] == ["quorum", ""]
    assert (facts[1].asked, facts[1].late) == ((), {"A": 1, "B": 1})
    assert asked == {1}
