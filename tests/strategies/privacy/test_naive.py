"""What formulas in circulation really give, δ = 1e-5 (PLD, zero-out)."""

import math
from dataclasses import replace

import dp_accounting as dp
import numpy as np
import pytest
from dp_accounting.pld import PLDAccountant

from strategies.errors import PartError
from strategies.privacy.accountant import epsilon
from strategies.privacy.events import from_json
from strategies.privacy.naive import NaiveLaplaceScale, NaiveMeanNoise

DELTA = 1e-5
EQUAL = dict.fromkeys("ABCD", 1.0)
LIDC = {"GE": 530.0, "SIEMENS": 164.0, "PHILIPS": 59.0, "TOSHIBA": 55.0}


def event_of(part, factors):
    return from_json(part.release({"w": np.zeros(10, np.float32)}, factors, {}, {})[2])


@pytest.mark.parametrize("claimed", [None, 0.1, 1.0, 50.0])
def test_mean_noise_is_ten_times_the_sensitivity_whatever_is_claimed(claimed):
    event = event_of(NaiveMeanNoise(claimed_epsilon=claimed, clip=1.0), EQUAL)
    assert event.noise_multiplier == pytest.approx(10.0)
    assert event.claimed_epsilon == claimed
    assert epsilon([event], DELTA) == pytest.approx(0.34, abs=0.005)
    assert epsilon([event] * 50, DELTA) == pytest.approx(2.94, abs=0.005)


def test_mean_noise_when_one_hospital_may_be_replaced():
    # replacing moves the mean by 2C/K: half the multiplier
    event = event_of(NaiveMeanNoise(claimed_epsilon=1.0, clip=1.0), EQUAL)
    direct = PLDAccountant(dp.NeighboringRelation.REPLACE_ONE, 1e-3).compose(dp.GaussianDpEvent(10.0), 50)
    half = replace(event, noise_multiplier=event.noise_multiplier / 2)
    assert epsilon([half] * 50, DELTA) == pytest.approx(6.57, abs=0.005)
    assert epsilon([half] * 50, DELTA) == pytest.approx(direct.get_epsilon(DELTA), abs=1e-3)


def test_mean_noise_with_the_sizes_of_lidc():
    event = event_of(NaiveMeanNoise(claimed_epsilon=1.0, clip=1.0), LIDC)
    assert event.noise_multiplier == pytest.approx(3.81, abs=0.005)
    assert epsilon([event] * 50, DELTA) == pytest.approx(9.1, abs=0.05)


@pytest.mark.parametrize(("claimed", "once", "fifty"), [(1.0, 4.38, 54), (2.0, 10.0, 159)])
@pytest.mark.parametrize("factors", [EQUAL, LIDC])
def test_laplaces_scale_with_gaussian_draws(claimed, once, fifty, factors):
    event = event_of(NaiveLaplaceScale(claimed_epsilon=claimed, clip=1.0), factors)
    assert event.noise_multiplier == pytest.approx(1.0 / claimed)
    assert epsilon([event], DELTA) == pytest.approx(once, abs=0.005)
    assert epsilon([event] * 50, DELTA) == pytest.approx(fifty, abs=0.5)


@pytest.mark.parametrize("part", [NaiveMeanNoise(1.0, None), NaiveLaplaceScale(1.0, None)])
def test_without_clipping_there_is_no_guarantee(part):
    huge = {"w": np.full(3, 1e6, np.float32)}
    assert part.bound(huge, {}) is huge
    assert epsilon([event_of(part, EQUAL)], DELTA) == math.inf


@pytest.mark.parametrize("part", [NaiveMeanNoise(1.0, 1.0), NaiveLaplaceScale(0.5, 1.0)])
def test_the_noise_added_is_the_noise_recorded(part):
    zero = {"w": np.zeros(200_000, np.float32)}
    released, _, facts = part.release(zero, LIDC, {}, {})
    # relative error of the measured deviation: 1/√400,000 = 0.16 %
    assert float(released["w"].std()) == pytest.approx(from_json(facts).sd, rel=0.01)
    assert np.linalg.norm(part.bound(zero | {"w": zero["w"] + 1}, {})["w"]) == pytest.approx(1.0, rel=1e-4)


def test_a_claim_that_is_no_positive_number_is_refused():
    with pytest.raises(PartError, match="claimed_epsilon"):
        NaiveLaplaceScale(claimed_epsilon=0.0, clip=1.0)
