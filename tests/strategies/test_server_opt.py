import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from strategies.errors import PartError
from strategies.server_opt import Adaptive, Momentum, Sgd

ALL = [Sgd(), Momentum(), *(Adaptive(rule) for rule in ("adagrad", "adam", "yogi"))]
each = pytest.mark.parametrize("optimiser", ALL, ids=["sgd", "momentum", "adagrad", "adam", "yogi"])


def steps(optimiser, deltas, model=0.0):
    moments, models = {}, []
    state = {"w": np.float32([model])}
    for delta in deltas:
        moments, state = optimiser.step(moments, state, {"w": np.float32([delta])})
        models.append(float(state["w"][0]))
    return models


def test_sgd_adds_the_update():
    assert steps(Sgd(lr=0.5), [2, 4], model=1) == [2, 4]


def test_momentum_keeps_moving_after_the_updates_stop():
    # v1 = 1, x1 = 1;  v2 = 0.5·1 + 0, x2 = 1.5;  v3 = 0.25, x3 = 1.75
    assert steps(Momentum(lr=1.0, beta=0.5), [1, 0, 0]) == pytest.approx([1, 1.5, 1.75])


def test_adagrad_by_hand():
    # τ 0.5, v0 0.25. Δ 1: m 1, v 1.25, x = 1/(√1.25 + 0.5) = 0.61803
    # Δ 2: m 2, v 5.25, x += 2/(√5.25 + 0.5) = 0.71650
    got = steps(Adaptive("adagrad", lr=1.0, beta1=0.0, tau=0.5), [1, 2])
    assert got == pytest.approx([0.618034, 0.618034 + 0.716504], rel=1e-5)


def test_adam_by_hand():
    # β₁ 0.5, β₂ 0.75, τ 0.5, v0 0.25. Δ 1: m 0.5, v 0.1875 + 0.25 = 0.4375, x = 0.5/(0.661438 + 0.5)
    # Δ −1: m 0.25 − 0.5 = −0.25, v 0.328125 + 0.25 = 0.578125, x −= 0.25/(0.760345 + 0.5)
    got = steps(Adaptive("adam", lr=1.0, beta1=0.5, beta2=0.75, tau=0.5), [1, -1])
    assert got == pytest.approx([0.430501, 0.430501 - 0.198358], rel=1e-4)


def test_yogi_by_hand():
    # v0 0.25, Δ² 1 > v: v = 0.25 + 0.25·1 = 0.5; then Δ² 0.04 < v: v = 0.5 − 0.25·0.04 = 0.49
    # x1 = 1/(√0.5 + 0.5) = 0.828427; x2 += 0.2/(0.7 + 0.5)
    got = steps(Adaptive("yogi", lr=1.0, beta1=0.0, beta2=0.75, tau=0.5), [1, 0.2])
    assert got == pytest.approx([0.828427, 0.828427 + 0.166667], rel=1e-5)


@each
def test_what_has_no_update_keeps_its_value_and_dtype(optimiser):
    model = {"w": np.float32([1]), "seen": np.int64(4), "home": np.float32([7])}
    moments, after = optimiser.step({}, model, {"w": np.float32([1])})
    assert after["seen"] is model["seen"]
    assert after["home"] is model["home"]
    assert after["w"].dtype == np.float32
    assert all(set(group) == {"w"} for group in moments.values())


@each
def test_a_tensor_without_axes_stays_one(optimiser):
    moments, model = {}, {"w": np.array(1, np.float32)}
    for _ in range(2):
        moments, model = optimiser.step(moments, model, {"w": np.array(0.5, np.float32)})
    assert model["w"].shape == ()


@given(st.floats(-10, 10).filter(lambda d: abs(d) > 0.01))
def test_adaptive_steps_go_the_way_of_the_update(delta):
    for rule in ("adagrad", "adam", "yogi"):
        assert np.sign(steps(Adaptive(rule), [delta])[0]) == np.sign(delta)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Sgd(0),
        lambda: Sgd(np.nan),
        lambda: Momentum(beta=1),
        lambda: Adaptive("lamb"),
        lambda: Adaptive("adam", tau=0),
    ],
)
def test_settings_out_of_range_are_refused(make):
    with pytest.raises(PartError, match="got"):
        make()


@each
def test_a_step_leaves_the_model_and_moments_it_was_given(optimiser):
    model, delta = {"w": np.float32([1, 2])}, np.float32([0.5, -1])
    moments, before = optimiser.step({}, model, {"w": delta.copy()})
    kept = {name: group["w"].copy() for name, group in moments.items()}
    optimiser.step(moments, before, {"w": delta.copy()})
    assert model["w"].tolist() == [1, 2]
    assert all(np.array_equal(moments[name]["w"], value) for name, value in kept.items())


@each
def test_the_new_model_is_made_in_the_memory_of_the_update(optimiser):
    delta = {"w": np.float32([0.5, -1])}
    moments, after = optimiser.step({}, {"w": np.float32([1, 2])}, delta)
    assert np.shares_memory(after["w"], delta["w"])
    assert not any(np.shares_memory(group["w"], delta["w"]) for group in moments.values())
