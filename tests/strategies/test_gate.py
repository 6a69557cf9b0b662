from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strategies.aggregate.krum import Krum
from strategies.errors import NoWeight
from strategies.gate import Gate
from strategies.intake import MOST_SUMS, Intake
from strategies.local.scaffold import Scaffold
from strategies.types import Refusal
from strategies.weighting import Equal, Quality
from strategies.wire.int8 import Int8
from tests.strategies.fakes import ZERO, FakeGrid, Hospital, codes, course, federated, run, vector


@pytest.mark.parametrize(
    ("delta", "code"),
    [
        (vector(np.nan, 1), "not-finite"),
        (vector(np.inf, 1), "not-finite"),
        (vector(0, 0), "zero-update"),
        (vector(1, 2, 3), "wrong-shape"),
        ({"w": np.float64([1, 2])}, "wrong-dtype"),
        ({"v": np.float32([1, 2])}, "wrong-layers"),
        ({**vector(1, 2), "v": np.float32([1])}, "wrong-layers"),
        ({}, "wrong-layers"),
    ],
)
def test_a_bad_update_is_refused_and_recorded_and_the_rest_goes_on(delta, code):
    state, _, (facts,), _ = run({"A": Hospital(vector(1, 2)), "B": Hospital(delta, patients=9)})
    np.testing.assert_allclose(state.model["w"], [1, 2])
    assert facts.refused == (Refusal("B", 1, code),)
    assert set(facts.reports) == {"A"}


@pytest.mark.parametrize(
    ("facts", "code"),
    [
        ({"hospital": "A"}, "wrong-hospital"),
        ({"round": 0}, "replayed"),
        ({"code": "other"}, "other-code"),
        ({"score": None}, "no-weight-fact"),
    ],
)
def test_an_answer_to_another_question_is_refused(facts, code):
    a = Hospital(vector(1, 2), facts={"score": 0.9, "code": "ours"})
    b = Hospital(vector(5, 5), facts={"score": 0.9, **facts})
    grid, seen = FakeGrid({10: a, 11: b}), []
    plain = course({"A": 10, "B": 11}, ZERO, after_round=lambda state, facts: seen.append(facts))
    federated(weighting=Quality()).run(grid, replace(plain, plan=replace(plain.plan, code="ours")))
    assert codes(seen[0]) == {"B": code}


def test_an_answer_to_another_run_is_refused():
    def forged(message):
        reply = Hospital(vector(1, 2))(message)
        reply.content["report"]["run"] = "another"
        return reply

    _, _, (facts,), _ = run({"A": Hospital(vector(1, 2)), "B": forged})
    assert codes(facts) == {"B": "wrong-run"}


def test_an_update_far_larger_than_the_others_is_left_out_whatever_the_order():
    for order in ("ABCDX", "XABCD", "AXBCD"):
        deltas = {name: vector(-20, -20) if name == "X" else vector(1, 1 + ord(name) / 100) for name in order}
        state, _, (facts,), _ = run({name: Hospital(d) for name, d in deltas.items()}, gate=Gate(norm_ratio=4))
        assert codes(facts) == {"X": "norm-outlier"}
        assert 0.9 < state.model["w"][0] < 1.1
        assert set(facts.weights) == set("ABCD")


@pytest.mark.parametrize(("honest", "exploding"), [("A", "X"), ("AB", "XY"), ("ABC", "XYZ")])
def test_where_half_explode_the_other_half_is_the_measure(honest, exploding):
    deltas = {name: vector(-20, -20 - ord(name)) for name in exploding} | {name: vector(1, 1) for name in honest}
    state, _, (facts,), _ = run({name: Hospital(d) for name, d in deltas.items()}, gate=Gate(norm_ratio=4))
    assert codes(facts) == dict.fromkeys(exploding, "norm-outlier")
    np.testing.assert_allclose(state.model["w"], [1, 1])


@pytest.mark.parametrize(("steps", "norms"), [((4, 144), (1, 6)), ((10, 250), (1, 12)), ((8, 8), (1, 3.9))])
def test_two_hospitals_of_unequal_size_are_both_used(steps, norms):
    # compared by norm / √steps: 36 times the steps and 6 times the norm are the same size
    hospitals = {
        name: Hospital(vector(norm, norm), facts={"steps": count})
        for name, norm, count in zip("AB", norms, steps, strict=True)
    }
    _, _, (facts,), _ = run(hospitals, gate=Gate(norm_ratio=4))
    assert not facts.refused


@pytest.mark.parametrize(("honest", "left_out"), [("ABCD", set()), ("ABCDE", {"X"})])
def test_an_outlier_stays_where_krum_would_have_too_few_without_it_and_krum_withstands_it(honest, left_out):
    # f = 1 needs 2f + 3 = 5 updates: with X there are five or six of them, without X four or five
    deltas = {name: vector(1, 1 + ord(name) / 100) for name in honest} | {"X": vector(-20, -20)}
    hospitals = {name: Hospital(delta) for name, delta in deltas.items()}
    state, _, (facts,), _ = run(hospitals, federated(aggregate=Krum(byzantine=1)), gate=Gate(norm_ratio=4))
    assert set(codes(facts)) == left_out
    assert facts.failed == ""
    assert state.model["w"][0] == 1.0


def saying(norm, delta):
    """A hospital whose report states a norm of its own."""

    def liar(message):
        reply = Hospital(delta)(message)
        reply.content["report"]["norm"] = norm
        return reply

    return liar


@pytest.mark.parametrize(
    ("stated", "code"),
    [
        (1.4, "norm-misstated"),
        (1e9, "norm-misstated"),
        (-1.0, "zero-update"),
        (0.0, "zero-update"),
        (float("nan"), "not-finite"),
        (float("inf"), "not-finite"),
        ("long", "malformed"),
    ],
)
@pytest.mark.parametrize("delta", [vector(30, 40), vector(1, np.nan), vector(1, np.inf)], ids=["huge", "nan", "inf"])
def test_an_update_of_another_norm_than_stated_is_refused_and_leaves_the_sum_as_it_was(delta, stated, code):
    hospitals = {"A": Hospital(vector(1, 1)), "B": saying(stated, delta), "C": Hospital(vector(1, 1.1))}
    state, _, (facts,), _ = run(hospitals, federated(weighting=Equal()), gate=Gate())
    assert codes(facts) == {"B": code}
    np.testing.assert_allclose(state.model["w"], [1, 1.05], rtol=1e-6)


def test_the_smallest_norm_there_is_after_very_many_steps_does_not_end_the_round():
    def liar(message):
        reply = Hospital(vector(0, 0), facts={"steps": 10**9})(message)
        reply.content["report"]["norm"] = 5e-324
        return reply

    hospitals = {"A": Hospital(vector(1, 1)), "B": liar, "C": Hospital(vector(1, 1))}
    state, _, (facts,), _ = run(hospitals, gate=Gate())
    assert facts.failed == ""
    np.testing.assert_allclose(state.model["w"], [2 / 3, 2 / 3], rtol=1e-6)


def test_a_robust_rule_checks_the_stated_norm_too():
    hospitals = {name: Hospital(vector(1, 1)) for name in "ABCDE"} | {"X": saying(1.4, vector(30, 40))}
    _, _, (facts,), _ = run(hospitals, federated(aggregate=Krum(byzantine=1)), gate=Gate())
    assert codes(facts) == {"X": "norm-misstated"}


ORDINARY = [1 + i / 6 for i in range(7)]


@given(st.permutations([1e-9, 1e-6, *ORDINARY[3:], 1e3, 1e5, 1e9]))
@settings(max_examples=25, deadline=None)
def test_whatever_sizes_come_few_sums_are_open_and_those_far_above_are_left_out(rest):
    # Only those, as long as most of what came is of ordinary size.
    scales = [*ORDINARY[:3], *rest]
    most, make_room = 0, Intake._make_room

    def counted(intake):
        nonlocal most
        make_room(intake)
        most = max(most, len(intake.tallies) + 1)

    hospitals = {f"{scale:g}": Hospital(vector(scale, scale)) for scale in scales}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Intake, "_make_room", counted)
        state, _, (facts,), _ = run(hospitals, federated(weighting=Equal()), gate=Gate(norm_ratio=4))
    assert most <= MOST_SUMS
    assert set(codes(facts)) == {"1000", "100000", "1e+09"}
    np.testing.assert_allclose(state.model["w"], (1e-9 + 1e-6 + sum(ORDINARY)) / 9, rtol=1e-6)


@given(st.permutations([1e-9, *ORDINARY, 1e3, 1e5, 1e9]))
@settings(max_examples=25, deadline=None)
def test_in_whatever_order_they_come_what_is_far_above_is_left_out(scales):
    hospitals = {f"{scale:g}": Hospital(vector(scale, scale)) for scale in scales}
    state, _, (facts,), _ = run(hospitals, federated(weighting=Equal()), gate=Gate(norm_ratio=4))
    assert set(codes(facts)) >= {"1000", "100000", "1e+09"}
    assert state.model["w"][0] <= ORDINARY[-1]


def test_a_hospital_with_many_more_steps_is_no_outlier():
    small = {name: Hospital(vector(1, 1), facts={"steps": 4}) for name in "ABC"}
    big = Hospital(vector(6, 6), facts={"steps": 144})  # six times the norm after 36 times the steps
    _, _, (facts,), _ = run({**small, "D": big}, gate=Gate(norm_ratio=2))
    assert not facts.refused


@given(st.lists(st.floats(0.01, 100), min_size=1, max_size=8))
@settings(max_examples=25, deadline=None)
def test_the_sum_does_not_depend_on_how_sizes_fall_into_classes(scales):
    hospitals = {str(i): Hospital(vector(s, s)) for i, s in enumerate(scales)}
    state, _, (facts,), _ = run(hospitals, federated(weighting=Equal()), gate=Gate(norm_ratio=1e6))
    np.testing.assert_allclose(state.model["w"], np.mean(scales), rtol=1e-5)
    assert sum(facts.weights.values()) == pytest.approx(1)


def test_all_zero_weights_end_the_run_by_name():
    with pytest.raises(NoWeight, match="A, B"):
        run({"A": Hospital(vector(1, 2), patients=0), "B": Hospital(vector(1, 2), patients=0)})


def test_a_control_variate_of_the_wrong_shape_is_refused():
    hospitals = {
        "A": Hospital(vector(1, 1), control=vector(1, 1)),
        "B": Hospital(vector(1, 1), control=vector(1)),
        "C": Hospital(vector(1, 1)),
        "D": Hospital(vector(1, 1), control=vector(np.inf, 1)),
    }
    state, _, (facts,), _ = run(hospitals, federated(local=Scaffold()))
    assert codes(facts) == {"B": "wrong-shape", "C": "wrong-layers", "D": "not-finite"}
    np.testing.assert_allclose(state.control["w"], [1, 1])  # the sum; A alone is in it


def test_an_update_that_does_not_decode_is_refused():
    hospitals = {"A": Hospital(vector(1, 1)), "B": Hospital(vector(1, 1))}
    _, _, (facts,), _ = run(hospitals, federated(wire=Int8()))
    assert codes(facts) == {"A": "undecodable", "B": "undecodable"}
