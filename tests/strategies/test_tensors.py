import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from strategies import tensors
from strategies.errors import Misstated

FINITE = st.floats(-1e3, 1e3, width=32)
VECTORS = hnp.arrays(np.float32, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=5), elements=FINITE)


@given(VECTORS, FINITE)
def test_scaled_addition_is_numpys(tensor, factor):
    into = np.ones(tensor.shape, np.float32)
    expected = into + tensor * np.float32(factor)
    tensors.add_scaled(into, tensor, factor)
    np.testing.assert_allclose(into, expected, rtol=1e-5, atol=1e-2)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_scaled_addition_takes_every_float_and_any_length(dtype):
    tensor = np.full(tensors.CHUNK + 3, 2, dtype)
    into = np.zeros(tensor.shape, tensors.accumulator_dtype(tensor))
    tensors.add_scaled(into, tensor, 0.5)
    np.testing.assert_array_equal(into, 1)


def test_scaled_addition_reads_fortran_order_by_index():
    tensor = np.asfortranarray(np.arange(6, dtype=np.float32).reshape(2, 3))
    into = np.zeros((2, 3), np.float32)
    tensors.add_scaled(into, tensor, 1.0)
    np.testing.assert_array_equal(into, tensor)


def test_a_difference_leaves_counters_at_home():
    after = {"w": np.float32([3]), "seen": np.int64(5)}
    before = {"w": np.float32([1]), "seen": np.int64(2)}
    delta = tensors.difference(after, before, ["w", "seen"])
    assert list(delta) == ["w"]
    np.testing.assert_array_equal(delta["w"], [2])


@given(VECTORS)
def test_the_norm_is_the_euclidean_one(tensor):
    assert tensors.norm({"a": tensor, "n": np.int64(7)}) == pytest.approx(np.linalg.norm(tensor.ravel()), rel=1e-5)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_the_norm_of_what_is_not_finite_is_not_a_number(bad):
    tensor = np.zeros(tensors.CHUNK + 5, np.float32)
    tensor[-1] = bad
    assert np.isnan(tensors.norm({"a": tensor}))


def test_a_long_vector_keeps_its_precision():
    # 10 million times 0.1² summed in one float32 would be off by per mille
    assert tensors.norm({"a": np.full(10_000_000, 0.1, np.float32)}) == pytest.approx(np.sqrt(1e7) * 0.1, rel=1e-5)


LONG = np.linspace(-1, 1, 2 * tensors.PIECE + 7, dtype=np.float32)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_checked_addition_is_addition(dtype):
    update = {"a": LONG.astype(dtype), "b": np.array(2, dtype), "none": np.zeros((0, 3), dtype)}
    plain, checked = ({name: np.ones(t.shape, np.float64) for name, t in update.items()} for _ in range(2))
    tensors.add_all(plain, update, 0.3)
    tensors.add_checked(checked, update, 0.3, tensors.norm(update))
    for name, total in plain.items():
        np.testing.assert_array_equal(checked[name], total)


@pytest.mark.parametrize("said", [0.5, 0.99, 1.01, 100.0])
def test_what_is_added_of_an_update_of_another_norm_is_taken_back(said):
    update, into = {"a": LONG}, {"a": np.ones_like(LONG)}
    with pytest.raises(Misstated, match="is said to have an L2 norm of"):
        tensors.add_checked(into, update, 0.3, said * tensors.norm(update))
    np.testing.assert_allclose(into["a"], 1, rtol=1e-6)


def test_no_element_larger_than_the_stated_norm_is_ever_added():
    update, into = {"a": LONG.copy()}, {"a": np.ones_like(LONG)}
    stated = tensors.norm(update)
    update["a"][-1] = 1e30
    with pytest.raises(Misstated):
        tensors.add_checked(into, update, 1.0, stated)
    np.testing.assert_allclose(into["a"], 1, rtol=1e-6)
