import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from strategies.privacy.clip import clip_update, exact_norm


def update(**tensors):
    return {name: np.asarray(t) for name, t in tensors.items()}


@st.composite
def updates(draw, dtypes=(np.float32, np.float64)):
    shapes = st.one_of(st.just(()), arrays.array_shapes(max_dims=3, max_side=6))
    elements = st.floats(-1e4, 1e4, width=16)
    tensors = draw(st.lists(arrays.arrays(st.sampled_from(dtypes), shapes, elements=elements), min_size=1, max_size=3))
    return {f"t{i}": t for i, t in enumerate(tensors)}


@given(updates(), st.floats(1e-3, 1e5))
def test_a_clipped_update_is_never_longer_than_the_bound(delta, clip):
    clipped, _ = clip_update(delta, clip)
    assert exact_norm(clipped) <= clip
    assert {name: (t.dtype, t.shape) for name, t in clipped.items()} == {
        name: (t.dtype, t.shape) for name, t in delta.items()
    }


@given(updates(dtypes=(np.float16,)), st.floats(0.1, 1e3))
def test_half_precision_is_held_to_the_bound_too(delta, clip):
    assert exact_norm(clip_update(delta, clip)[0]) <= clip


def test_a_large_float32_update_is_held_to_the_bound():
    # Summed in float32, or without a margin, norms of 1.0000008·C come out.
    delta = update(w=np.random.default_rng(0).normal(size=3_000_000).astype(np.float32))
    for clip in np.linspace(0.1, 3.0, 7):
        length = exact_norm(clip_update(delta, float(clip))[0])
        assert length <= clip
        assert length == pytest.approx(clip, rel=2e-5)


def test_all_tensors_are_scaled_together():
    # norm 5 → 1: everything times 1/5
    clipped, length = clip_update(update(a=[3.0], b=4.0), 1.0)
    assert length == 5.0
    np.testing.assert_allclose(clipped["a"], [0.6], rtol=2e-5)
    np.testing.assert_allclose(clipped["b"], 0.8, rtol=2e-5)


def test_an_update_within_the_ball_is_not_touched():
    delta = update(a=[0.3, 0.4])
    clipped, length = clip_update(delta, 1.0)
    assert clipped is delta
    assert length == pytest.approx(0.5)


def test_integers_neither_count_nor_change():
    delta = update(w=[3.0, 4.0], seen=np.int64(1_000_000), mask=[True])
    clipped, length = clip_update(delta, 1.0)
    assert length == 5.0
    assert clipped["seen"] == 1_000_000
    assert clipped["mask"].tolist() == [True]


def test_a_single_number_is_clipped_like_any_tensor():
    clipped, _ = clip_update(update(scale=np.float32(10.0)), 1.0)
    assert clipped["scale"].shape == ()
    assert clipped["scale"] == pytest.approx(1.0, rel=2e-5)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_an_update_that_is_not_finite_becomes_zero(bad):
    clipped, length = clip_update(update(a=[1.0, bad], n=np.int64(3)), 1.0)
    assert clipped["a"].tolist() == [0.0, 0.0]
    assert np.isnan(length)


def test_float64_values_whose_squares_overflow_become_zero():
    clipped, _ = clip_update(update(a=[1e200]), 1.0)
    assert clipped["a"].tolist() == [0.0]


def test_a_zero_update_stays_zero():
    clipped, length = clip_update(update(a=np.zeros(3)), 1.0)
    assert length == 0.0
    assert not clipped["a"].any()
