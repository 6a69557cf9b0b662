import logging
import time
from dataclasses import dataclass, replace

import numpy as np
import pytest
from flwr.app import ArrayRecord, ConfigRecord
from flwr.serverapp.strategy import Strategy
from hypothesis import given, settings
from hypothesis import strategies as st

from strategies import records
from strategies.aggregate.krum import Krum
from strategies.errors import NoWeight, PartError
from strategies.exchange.plain import Plain as PlainExchange
from strategies.gate import Gate
from strategies.intake import MOST_SUMS, Intake
from strategies.local.scaffold import Scaffold
from strategies.privacy.none import NoPrivacy
from strategies.selection import Uniform
from strategies.server_opt import Adaptive, Sgd
from strategies.sharing import FedBN
from strategies.types import Evaluation, Refusal, Stop
from strategies.weighting import Equal, Quality, Recency
from strategies.wire.int8 import Int8
from tests.strategies.fakes import (
    FakeGrid,
    Hospital,
    Late,
    course,
    federated,
    raising,
    refusing,
    silent,
    vector,
)

ZERO = vector(0, 0)


def run(hospitals, strategy=None, dead=(), **settings):
    """One run over named hospitals (name → handler). Returns state, stop, the facts of each round, and the grid."""
    roster = {name: node for node, name in enumerate(hospitals, start=10)}
    grid = FakeGrid({roster[name]: handler for name, handler in hospitals.items()}, {roster[name] for name in dead})
    facts = []
    listener = settings.pop("after_round", lambda state, fact: None)

    def after_round(state, fact):
        facts.append(fact)
        return listener(state, fact)

    model = settings.pop("model", ZERO)
    state, stop = (strategy or federated()).run(grid, course(roster, model, after_round=after_round, **settings))
    return state, stop, facts, grid


def codes(facts):
    return {refusal.hospital: refusal.code for refusal in facts.refused}


# --- one round ---


def test_one_round_is_the_weighted_mean_of_the_hospitals_models():
    # 1 + (1·[1,2] + 3·[5,−2]) / 4 = 1 + [4, −1] = [5, 0]
    hospitals = {"A": Hospital(vector(1, 2), patients=1), "B": Hospital(vector(5, -2), patients=3)}
    state, stop, (facts,), _ = run(hospitals, model=vector(1, 1))
    np.testing.assert_allclose(state.model["w"], [5, 0], rtol=1e-6)
    assert facts.weights == pytest.approx({"A": 0.25, "B": 0.75})
    assert facts.norms == pytest.approx({"A": 5**0.5, "B": 29**0.5})
    assert (state.round, stop.reason, facts.asked, facts.failed) == (1, "rounds", ("A", "B"), "")


@given(
    st.lists(st.tuples(st.integers(1, 1000), st.floats(-5, 5, width=32)), min_size=1, max_size=6),
    st.randoms(use_true_random=False),
)
@settings(max_examples=30, deadline=None)
def test_a_round_equals_plain_fedavg_of_models_in_any_order(rows, random):
    model = np.float32([0.5, -1.5])
    after = [model + np.float32([x, 1 + x / 2]) for _, x in rows]
    expected = np.average(np.float64(after), axis=0, weights=[n for n, _ in rows])
    hospitals = [
        (str(i), Hospital({"w": a - model}, patients=n)) for i, (a, (n, _)) in enumerate(zip(after, rows, strict=True))
    ]
    random.shuffle(hospitals)
    state, *_ = run(dict(hospitals), model={"w": model})
    np.testing.assert_allclose(state.model["w"], expected, atol=2e-6)


def test_counters_and_other_integers_keep_the_servers_value():
    model = {"w": np.float32([0]), "seen": np.array(5), "scale": np.array(2.0, np.float32), "h": np.float16([1])}
    delta = {"w": np.float32([1]), "scale": np.array(1.0, np.float32), "h": np.float16([0.5])}
    state, *_ = run({"A": Hospital(delta), "B": Hospital(delta, patients=3)}, model=model)
    for name, before in model.items():
        assert (state.model[name].dtype, state.model[name].shape) == (before.dtype, before.shape)
    assert (state.model["seen"], state.model["scale"], state.model["h"][0]) == (5, 3.0, 1.5)


def test_a_server_learning_rate_scales_the_step():
    state, *_ = run({"A": Hospital(vector(2, 4))}, federated(server_opt=Sgd(lr=0.5)))
    np.testing.assert_allclose(state.model["w"], [1, 2])


def test_nothing_given_to_a_round_is_changed_by_it():
    model = vector(1, 1)
    run({"A": Hospital(vector(1, 2))}, model=model, rounds=2)
    np.testing.assert_array_equal(model["w"], [1, 1])


def test_every_hospital_gets_its_own_plan_and_the_current_model():
    a, b = Hospital(vector(1, 1)), Hospital(vector(3, 3))
    run({"A": a, "B": b}, rounds=3, lr_scale=lambda round: 1 / round)
    assert [plan.round for plan in a.plans] == [1, 2, 3]
    assert {plan.hospital for plan in b.plans} == {"B"}
    assert [plan.lr_scale for plan in a.plans] == [1, 1 / 2, 1 / 3]
    np.testing.assert_allclose([m["w"][0] for m in a.models], [0, 2, 4])


def test_hospitals_are_asked_for_a_score_where_the_weighting_needs_one():
    plain, asked = Hospital(vector(1, 1)), Hospital(vector(1, 1), facts={"score": 0.7})
    run({"A": plain})
    run({"A": asked}, federated(weighting=Quality()))
    assert (plain.plans[0].score, asked.plans[0].score) == (False, True)


def test_several_hospitals_may_live_on_one_node():
    grid = FakeGrid({10: Hospital(lambda plan, model: vector(1, 0) if plan.hospital == "A" else vector(0, 1))})
    state, _ = federated().run(grid, course({"A": 10, "B": 10}, ZERO))
    np.testing.assert_allclose(state.model["w"], [0.5, 0.5])


def test_bytes_are_counted_both_ways():
    _, _, (facts,), grid = run({"A": Hospital(vector(1, 2))})
    assert facts.bytes_down["A"] == records.record_nbytes(grid.sent[0].content["model"]) > 8
    assert facts.bytes_up["A"] > 8


def test_replies_are_pulled_one_at_a_time():
    *_, grid = run({name: Hospital(vector(1, 2)) for name in "ABCDE"})
    assert grid.largest_pull == 1


# --- hospitals that do not answer ---


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


# --- the gate ---


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


# --- state, stop, resume ---


def test_a_listener_may_stop_the_run():
    state, stop, facts, _ = run(
        {"A": Hospital(vector(1, 2))}, rounds=9, after_round=lambda s, f: Stop("target") if s.round == 4 else None
    )
    assert (state.round, stop.reason, len(facts)) == (4, "target", 4)


def drifting(plan, model):
    return {"w": np.float32(0.1) * np.sin(model["w"] + plan.round)}


@pytest.mark.parametrize("broken_after", [1, 2, 3])
def test_a_resumed_run_is_bit_equal_to_the_undisturbed_one(broken_after):
    hospitals = {"A": Hospital(drifting, patients=3), "B": Hospital(drifting, patients=5), "C": raising}
    whole, *_ = run(hospitals, rounds=4, model=vector(1, 2))
    half, *_ = run(hospitals, rounds=broken_after, model=vector(1, 2))
    roster = {name: node for node, name in enumerate(hospitals, start=10)}
    grid = FakeGrid({roster[name]: handler for name, handler in hospitals.items()})
    resumed, _ = federated().run(grid, replace(course(roster, ZERO, rounds=4), initial=half))
    assert resumed.model["w"].tobytes() == whole.model["w"].tobytes()
    assert resumed.facts == {**whole.facts, "losses": resumed.facts["losses"]}


def test_a_finished_run_asks_nobody():
    a = Hospital(vector(1, 2))
    done, *_ = run({"A": a}, rounds=2)
    federated().run(FakeGrid({10: a}), replace(course({"A": 10}, ZERO, rounds=2), initial=done))
    assert len(a.plans) == 2


@pytest.mark.parametrize("setting", [{"quorum": 0}, {"deadline_s": -1}, {"strikes": 0}, {"max_staleness": -1}])
def test_a_course_out_of_range_is_refused_by_name(setting):
    with pytest.raises(PartError, match=next(iter(setting))):
        course({}, ZERO, **setting)


# --- evaluation ---


def test_an_evaluation_asks_everybody_and_hands_on_plain_values():
    def scoring(message):
        ask = records.read_ask(message)
        assert message.metadata.message_type == "evaluate"
        return records.scores(message, {"split": ask["split"], "bins": ask["bins"]}, {"counts": np.arange(2)})

    grid = FakeGrid({10: scoring, 11: refusing("no-test-patients"), 12: silent, 13: Hospital(vector(1, 2))})
    roster = {"A": 10, "B": 11, "C": 12, "D": 13}
    plain = course(roster, vector(1, 2))
    answers = federated().evaluate(grid, plain, plain.initial, config={"bins": 7})
    assert isinstance(answers["A"], Evaluation)
    assert answers["A"].report == {"split": "test", "bins": 7}
    np.testing.assert_array_equal(answers["A"].arrays["counts"], [0, 1])
    assert [answers[name].code for name in "BCD"] == ["no-test-patients", "timeout", "malformed"]


# --- as a Flower strategy ---


@pytest.fixture
def quiet_flower():
    logger = logging.getLogger("flwr")
    level = logger.level
    logger.setLevel(logging.ERROR)
    yield
    logger.setLevel(level)


def test_start_keeps_flowers_signature_and_result(quiet_flower):
    grid = FakeGrid({10: Hospital(vector(1, 2)), 11: Hospital(vector(3, 2))})
    seen = []
    config = ConfigRecord({"lr": 0.1})
    evaluate = lambda round, arrays: seen.append(round)  # noqa: E731
    result = federated().start(grid, records.to_record(ZERO), 2, 5.0, config, evaluate_fn=evaluate)
    np.testing.assert_allclose(result.arrays["w"].numpy(), [4, 4])
    assert result.train_metrics_clientapp[2]["replied"] == 2
    assert seen == [0, 1, 2]
    assert records.read_ask(grid.sent[0]) == {"lr": 0.1}


def test_flowers_own_loop_drives_the_same_rounds_through_the_four_hooks(quiet_flower):
    def nodes():
        return {10: Hospital(drifting, patients=2), 11: Hospital(drifting, patients=5), 12: raising}

    ours = federated().start(FakeGrid(nodes()), records.to_record(vector(1, 2)), 3)
    theirs = Strategy.start(federated(), FakeGrid(nodes()), records.to_record(vector(1, 2)), 3)
    assert isinstance(theirs.arrays, ArrayRecord)
    np.testing.assert_allclose(theirs.arrays["w"].numpy(), ours.arrays["w"].numpy(), rtol=1e-6)
    assert theirs.train_metrics_clientapp[3]["refused"] == 1


def test_an_exchange_that_polls_never_is_refused():
    with pytest.raises(PartError, match="poll_s"):
        PlainExchange(poll_s=0)


# --- what a privacy part may ask of the round ---


@dataclass(frozen=True)
class Counting(NoPrivacy):
    """Clips to 1, caps factors at 2, and notes what it is asked to release."""

    unit = "site"
    counts_refused = True

    def bound(self, delta, state):
        length = np.linalg.norm(delta["w"])
        return {"w": delta["w"] / np.float32(max(1.0, length))}

    def factor(self, factor):
        return min(factor, 2.0)

    def release(self, mean, factors, state, norms):
        count = state.get("count", 0) + 1
        return mean, {"count": count}, {"factors": dict(factors), "count": count}


def test_a_privacy_part_clips_caps_and_releases_with_a_state_of_its_own():
    hospitals = {"A": Hospital(vector(3, 4), patients=9), "B": Hospital(vector(0, 0.5), patients=1)}
    state, _, facts, _ = run(hospitals, federated(privacy=Counting()), rounds=2)
    # each round: (2·[0.6, 0.8] + 1·[0, 0.5]) / 3 = [0.4, 0.7]
    np.testing.assert_allclose(state.model["w"], [0.8, 1.4], rtol=1e-6)
    assert [fact.privacy["count"] for fact in facts] == [1, 2]
    assert facts[0].privacy["factors"] == {"A": 2.0, "B": 1.0}
    assert state.facts["privacy"] == {"count": 2}


@pytest.mark.parametrize("bad", [vector(np.nan, 0), vector(0, 0), vector(1, 2, 3)])
def test_under_site_privacy_a_refused_update_counts_as_zero_and_keeps_its_weight(bad):
    hospitals = {"A": Hospital(vector(0, 1)), "B": Hospital(bad)}
    state, _, (facts,), _ = run(hospitals, federated(privacy=Counting()))
    np.testing.assert_allclose(state.model["w"], [0, 0.5])
    assert facts.weights == pytest.approx({"A": 0.5, "B": 0.5})
    assert set(codes(facts)) == {"B"}


def test_under_site_privacy_a_refused_update_leaves_quorum_and_attendance_as_they_were():
    def outcome(b):
        hospitals = {"A": Hospital(vector(0, 1)), "B": Hospital(b)}
        state, stop, facts, _ = run(hospitals, federated(privacy=Counting()), rounds=5, quorum=2, strikes=1)
        return stop, state.facts, [(f.asked, f.benched, f.failed, f.weights) for f in facts]

    assert outcome(vector(0, 0)) == outcome(vector(3, 4)) == outcome(vector(np.nan, 0))


def test_under_site_privacy_an_update_whose_bytes_cannot_be_read_counts_as_zero_too():
    def torn(message):
        reply = Hospital(vector(1, 1))(message)
        reply.content["delta"]["w"].data = b"torn"
        return reply

    state, _, (facts,), _ = run({"A": Hospital(vector(0, 1)), "B": torn}, federated(privacy=Counting()))
    assert codes(facts) == {"B": "malformed"}
    np.testing.assert_allclose(state.model["w"], [0, 0.5])


def test_under_site_privacy_updates_are_not_compared_with_one_another():
    hospitals = {name: Hospital(vector(0, 1)) for name in "ABCD"} | {"X": Hospital(vector(0, -1000))}
    _, _, (facts,), _ = run(hospitals, federated(privacy=Counting()), gate=Gate(norm_ratio=2))
    assert not facts.refused


# --- further parts in the round ---


def test_an_aggregate_that_needs_more_updates_raises_the_quorum():
    hospitals = {name: Hospital(vector(1, 1)) for name in "ABCD"}
    _, _, (facts,), _ = run(hospitals, federated(aggregate=Krum(1)))
    assert (facts.failed, facts.asked) == ("quorum", ())


def test_krum_says_whom_it_used():
    hospitals = {str(i): Hospital(vector(v, v)) for i, v in enumerate((1.0, 1.1, 1.2, 3.0, -50.0))}
    state, _, (facts,), _ = run(hospitals, federated(aggregate=Krum(1)))
    assert [name for name, weight in facts.weights.items() if weight] == ["1"]
    np.testing.assert_allclose(state.model["w"], 1.1, rtol=1e-6)


def test_a_batch_norms_statistics_move_by_their_mean_whatever_the_server_optimiser():
    model = {"w": np.float32([0]), "variance": np.float32([1])}
    hospitals = {"A": Hospital({"w": np.float32([1]), "variance": np.float32([-0.5])})}
    state, *_ = run(
        hospitals,
        federated(server_opt=Adaptive("adam", lr=1.0)),
        model=model,
        kinds={"w": "conv", "variance": "norm-statistic"},
    )
    assert state.model["variance"] == 0.5
    assert state.model["w"] != 1
    assert set(state.server_opt["v"]) == {"w"}


def test_a_hospital_gets_the_whole_model_once_and_then_only_what_travels():
    kinds = {"w": "conv", "n": "norm", "seen": "counter"}
    model = {"w": np.float32([1, 2]), "n": np.float32([1]), "seen": np.int64(0)}
    a = Hospital({"w": np.float32([1, 1])})

    def forgetful(message):
        return a(message) if records.read_plan(message).round != 3 else None

    state, *_ = run({"A": forgetful}, federated(sharing=FedBN()), model=model, kinds=kinds, rounds=5, deadline_s=0.05)
    # after a round without an answer nobody knows what the hospital still has
    assert [set(got) for got in a.models] == [set(model), {"w"}, set(model), {"w"}]
    np.testing.assert_allclose(state.model["w"], [5, 6])
    assert (state.model["n"][0], state.model["seen"]) == (1, 0)


def test_only_selected_hospitals_are_asked():
    hospitals = {name: Hospital(vector(1, 1)) for name in "ABCDEFGH"}
    _, _, facts, grid = run(hospitals, federated(selection=Uniform(0.25)), rounds=4)
    assert [len(fact.asked) for fact in facts] == [2, 2, 2, 2]
    assert len(grid.sent) == 8


def test_a_control_variate_of_the_wrong_shape_is_refused():
    hospitals = {
        "A": Hospital(vector(1, 1), control=vector(1, 1)),
        "B": Hospital(vector(1, 1), control=vector(1)),
        "C": Hospital(vector(1, 1)),
        "D": Hospital(vector(1, 1), control=vector(np.inf, 1)),
    }
    state, _, (facts,), _ = run(hospitals, federated(local=Scaffold()))
    assert codes(facts) == {"B": "wrong-shape", "C": "wrong-layers", "D": "not-finite"}
    np.testing.assert_allclose(state.control["w"], [0.25, 0.25])  # |S|/N = 1/4 of the mean


def test_an_update_that_does_not_decode_is_refused():
    hospitals = {"A": Hospital(vector(1, 1)), "B": Hospital(vector(1, 1))}
    _, _, (facts,), _ = run(hospitals, federated(wire=Int8()))
    assert codes(facts) == {"A": "undecodable", "B": "undecodable"}
