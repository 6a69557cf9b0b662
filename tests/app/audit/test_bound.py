"""The bound against sampling, its known limits, and what no bound may do."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.audit.bound import chance, lower_bound


def test_all_right_guesses_show_what_a_binomial_allows():
    # 200 of 200 right: (e^ε/(1+e^ε))^200 = 0.0005 at ε = 3.25; δ takes some of it.
    assert lower_bound(canaries=200, guesses=200, correct=200, delta=0.0) == pytest.approx(3.25, abs=0.01)
    assert lower_bound(canaries=200, guesses=200, correct=200, delta=1e-5) == pytest.approx(3.13, abs=0.01)


def test_half_of_the_guesses_right_shows_nothing():
    assert lower_bound(canaries=1000, guesses=200, correct=100, delta=1e-5) == 0.0


@settings(deadline=None)
@given(st.integers(1, 300), st.data())
def test_more_right_guesses_never_show_less(guesses, data):
    correct = data.draw(st.integers(0, guesses - 1))
    fewer, more = (lower_bound(canaries=400, guesses=guesses, correct=n, delta=1e-6) for n in (correct, correct + 1))
    assert more >= fewer - 1e-9


def test_the_bound_of_randomised_response_is_rarely_above_its_epsilon():
    """The mechanism that tells each coin with probability e^ε/(1+e^ε) is ε-private to the letter: the hardest case."""
    epsilon, guesses = 1.0, 400
    rng = np.random.default_rng(0)
    right = rng.binomial(guesses, np.exp(epsilon) / (1 + np.exp(epsilon)), 400)
    shown = [lower_bound(canaries=400, guesses=guesses, correct=int(n), delta=0.0, confidence=0.95) for n in right]
    wrong = np.mean(np.array(shown) > epsilon)
    # Binomial(400, 0.05): above 0.09 once in 2,000 times.
    assert wrong < 0.09
    assert np.median(shown) > 0.7


def test_chance_is_a_probability_that_grows_with_epsilon():
    values = [chance(e, canaries=100, guesses=50, correct=45, delta=1e-5) for e in np.linspace(0, 6, 20)]
    assert all(0 <= v <= 1 for v in values)
    assert np.all(np.diff(values) >= 0)


def test_counts_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="right ≤ guesses"):
        lower_bound(canaries=10, guesses=5, correct=6, delta=0.0)
