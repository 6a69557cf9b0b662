import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strategies import records
from strategies.aggregate.krum import Krum
from strategies.records.arrays import record_nbytes
from strategies.selection import Uniform
from strategies.server_opt import Adaptive, Sgd
from strategies.sharing import FedBN
from strategies.weighting import Quality
from tests.strategies.fakes import ZERO, FakeGrid, Hospital, course, federated, run, vector


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
    assert facts.bytes_down["A"] == record_nbytes(grid.sent[0].content["model"]) > 8
    assert facts.bytes_up["A"] > 8


def test_replies_are_pulled_one_at_a_time():
    *_, grid = run({name: Hospital(vector(1, 2)) for name in "ABCDE"})
    assert grid.largest_pull == 1


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
