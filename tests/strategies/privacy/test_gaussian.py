from itertools import combinations

import numpy as np
from scipy import stats

from strategies.privacy.gaussian import add_noise
from strategies.privacy.generator import FixedSeed, SystemRandomness

SIGMAS = 5.0
"""Fails by chance less than once in 10^6."""


def zeros(size=500_000):
    return {
        "conv": np.zeros((size // 10, 10), np.float32),
        "double": np.zeros(size, np.float64),
        "scale": np.float32(0.0).reshape(()),
        "seen": np.asarray(7),
    }


def test_every_float_element_gets_noise_of_the_stated_deviation():
    noised = add_noise(zeros(), 3.0, SystemRandomness().open())
    for name in ("conv", "double"):
        x = noised[name].astype(np.float64).reshape(-1)
        assert abs(x.mean()) < SIGMAS * 3.0 / np.sqrt(x.size)
        assert abs(x.std() / 3.0 - 1.0) < SIGMAS / np.sqrt(2 * x.size)
        assert stats.kstest(x / 3.0, "norm").pvalue > 1e-6


def test_parameters_do_not_share_noise():
    noised = add_noise(zeros(), 1.0, SystemRandomness().open())
    again = add_noise(zeros(), 1.0, SystemRandomness().open())
    draws = [noised["conv"].reshape(-1), noised["double"], again["conv"].reshape(-1), again["double"]]
    for x, y in combinations(draws, 2):
        assert abs(np.corrcoef(x, y)[0, 1]) < SIGMAS / np.sqrt(x.size)


def test_shapes_and_types_stay_and_integers_are_left_alone():
    before = zeros(100)
    after = add_noise(before, 1.0, SystemRandomness().open())
    assert {name: (t.shape, t.dtype) for name, t in after.items()} == {
        name: (t.shape, t.dtype) for name, t in before.items()
    }
    assert after["seen"] == 7
    assert after["scale"] != 0.0


def test_what_it_was_given_stays_as_it_was():
    before = zeros(100)
    add_noise(before, 1.0, FixedSeed(1).open())
    assert not any(before[name].any() for name in ("conv", "double", "scale"))
