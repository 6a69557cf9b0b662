"""Reference values: dp-accounting's PLD at 1e-3 and RDP, Opacus' PRV, all at δ = 1e-5."""

import math
from dataclasses import replace

import dp_accounting as dp
import numpy as np
import pytest
from dp_accounting.pld import PLDAccountant
from dp_accounting.rdp import RdpAccountant
from hypothesis import given, settings
from hypothesis import strategies as st
from opacus.accountants import PRVAccountant

from strategies.errors import PartError
from strategies.privacy import accountant
from strategies.privacy.accountant import (
    Mechanism,
    RdpFilter,
    calibrate,
    epsilon,
    epsilon_rdp,
    filter_for,
    gaussian_noise,
    renyi,
    rounds_that_fit,
)
from strategies.privacy.events import DpSgd, HistogramRelease, NaiveRelease, SiteRelease

DELTA = 1e-5


def sgd(noise, rate, steps, **facts):
    return DpSgd(unit="patient", noise_multiplier=noise, sample_rate=rate, steps=steps, clip=1.0, **facts)


def histogram(noise, population="test", **facts):
    return HistogramRelease(unit="patient", noise_multiplier=noise, bins=200, population=population, **facts)


def site(noise):
    return SiteRelease(noise_multiplier=noise, adjacency="zero-out", clip=1.0, sd=noise, weights={"A": 1.0})


def directly(*sampled):
    """dp-accounting, one compose a round: (noise, rate, steps)."""
    direct = PLDAccountant(dp.NeighboringRelation.ADD_OR_REMOVE_ONE, 1e-3)
    for noise, rate, steps in sampled:
        gaussian = dp.GaussianDpEvent(noise)
        direct.compose(gaussian if rate == 1.0 else dp.PoissonSampledDpEvent(rate, gaussian), steps)
    return direct.get_epsilon(DELTA)


@pytest.mark.parametrize(
    ("rate", "noise", "steps", "rdp", "pld"),
    [
        (0.01, 1.0, 1000, 2.101, 1.828),
        (0.1, 2.0, 500, 6.034, 5.556),
        (0.5, 4.0, 100, 6.37, 5.869),
        (1.0, 10.0, 50, 3.189, 2.943),
    ],
)
def test_reference_values(rate, noise, steps, rdp, pld):
    assert epsilon([sgd(noise, rate, steps)], DELTA) == pytest.approx(pld, abs=1e-3)
    assert epsilon_rdp([sgd(noise, rate, steps)], DELTA) == pytest.approx(rdp, abs=1e-3)


@pytest.mark.parametrize(("rate", "noise", "steps"), [(0.01, 1.0, 1000), (0.1, 2.0, 500), (0.5, 4.0, 100)])
def test_opacus_prv_agrees_within_two_hundredths(rate, noise, steps):
    opacus = PRVAccountant()
    opacus.history = [(noise, rate, steps)]
    assert epsilon([sgd(noise, rate, steps)], DELTA) == pytest.approx(opacus.get_epsilon(DELTA), abs=0.02)


def fifty_different(seed):
    """Forty rounds of training and ten Gaussian releases, no two alike: (noise, rate, steps)."""
    rng = np.random.default_rng(seed)
    rounds = [(float(rng.uniform(1, 3)), float(rng.uniform(0.05, 0.2)), int(rng.integers(5, 30))) for _ in range(40)]
    return rounds, [(float(rng.uniform(5, 9)), 1.0, 1) for _ in range(10)]


def test_fifty_different_rounds_cost_what_dp_accounting_says():
    rounds, releases = fifty_different(seed=3)
    mixed = [sgd(*facts) for facts in rounds] + [site(noise) for noise, _, _ in releases]
    assert epsilon(mixed, DELTA) == pytest.approx(directly(*rounds, *releases), abs=1e-6)


def test_fifty_different_rounds_cost_what_opacus_prv_says_within_two_hundredths():
    rounds, releases = fifty_different(seed=3)
    opacus = PRVAccountant()
    opacus.history = [*rounds, *releases]
    mixed = [sgd(*facts) for facts in rounds] + [site(noise) for noise, _, _ in releases]
    with np.errstate(divide="ignore"):  # it takes log(1 − rate), and of a rate of 1 that is −∞, as it should be
        assert epsilon(mixed, DELTA) == pytest.approx(opacus.get_epsilon(DELTA, eps_error=0.005), abs=0.02)


def test_rounds_that_repeat_are_composed_at_once_to_the_same_cost():
    # Same mechanisms in one go or one after the other: dp-accounting rounds each composition up a little.
    rounds = [(2.0, 0.1, 20), (3.0, 0.05, 10)] * 5
    assert epsilon([sgd(*facts) for facts in rounds], DELTA) == pytest.approx(directly(*rounds), abs=5e-6)


def test_composing_is_not_adding():
    one_round = [sgd(2.0, 0.1, 20)]
    assert 10 * epsilon(one_round, DELTA) > 2 * epsilon(one_round * 10, DELTA)


def test_ten_releases_of_the_gaussian_are_one_with_less_noise():
    assert epsilon([site(10.0)] * 50, DELTA) == pytest.approx(
        dp.get_epsilon_gaussian(10 / math.sqrt(50), DELTA), abs=1e-4
    )


@pytest.mark.parametrize(("target", "noise"), [(2.0, 14.1), (3.2, 9.29), (8.0, 4.24)])
def test_noise_for_fifty_rounds_at_site_level(target, noise):
    assert calibrate(target, DELTA, lambda z: [site(z)] * 50) == pytest.approx(noise, abs=0.01)
    assert gaussian_noise(target, DELTA, 50) == pytest.approx(noise, abs=0.01)
    assert epsilon([site(gaussian_noise(target, DELTA, 50))] * 50, DELTA) <= target


@settings(deadline=None, max_examples=5)
@given(st.floats(0.3, 10.0), st.sampled_from([0.1, 1.0]), st.sampled_from([30, 1000]))
def test_calibrated_noise_is_enough_and_hardly_more(target, rate, steps):
    noise = calibrate(target, DELTA, lambda z: [sgd(z, rate, steps)])
    assert epsilon([sgd(noise, rate, steps)], DELTA) <= target
    assert epsilon([sgd(noise * 0.999, rate, steps)], DELTA) > target


def test_calibration_leaves_room_for_the_evaluation_release():
    plan = [histogram(3.0, "training")]
    noise = calibrate(3.2, DELTA, lambda z: [sgd(z, 0.1, 500), *plan])
    assert epsilon([sgd(noise, 0.1, 500), *plan], DELTA) == pytest.approx(3.2, abs=2e-3)
    assert noise > calibrate(3.2, DELTA, lambda z: [sgd(z, 0.1, 500)])


def test_a_budget_that_other_releases_have_used_up_cannot_be_calibrated():
    with pytest.raises(PartError, match="costs more already"):
        calibrate(1.0, DELTA, lambda z: [sgd(z, 0.1, 100), histogram(0.5, "training")])


@pytest.mark.parametrize("delta", [0.0, 1.0, -1e-5, float("nan")])
def test_a_delta_that_is_no_probability_is_refused(delta):
    with pytest.raises(PartError, match="delta"):
        epsilon([site(1.0)], delta)


@pytest.mark.parametrize("target", [0.0, -1.0, math.inf, math.nan])
def test_a_budget_that_is_no_positive_number_is_refused(target):
    with pytest.raises(PartError, match="epsilon"):
        calibrate(target, DELTA, lambda z: [site(z)])
    with pytest.raises(PartError, match="epsilon"):
        gaussian_noise(target, DELTA, 1)


def test_a_filter_needs_an_order_above_one_and_noise_a_release():
    with pytest.raises(PartError, match="order"):
        RdpFilter(1, DELTA)
    with pytest.raises(PartError, match="releases"):
        gaussian_noise(1.0, DELTA, 0)


def test_a_huge_budget_needs_little_noise():
    noise = calibrate(40.0, DELTA, lambda z: [site(z)])
    assert noise == pytest.approx(gaussian_noise(40.0, DELTA, 1), rel=1e-3)
    assert noise < 0.25


@pytest.mark.parametrize("told", [epsilon, epsilon_rdp])
def test_nothing_costs_nothing(told):
    assert told([], DELTA) == 0.0
    assert told([sgd(1.0, 0.1, 0)], DELTA) == 0.0


@pytest.mark.parametrize("told", [epsilon, epsilon_rdp, lambda events, delta: filter_for(8.0, delta).spent(events)])
def test_a_fixed_seed_or_a_missing_clip_has_no_epsilon(told):
    unclipped = NaiveRelease(
        formula="f", claimed_epsilon=1.0, noise_multiplier=0.0, clip=None, sd=1.0, weights={"A": 1.0}
    )
    assert told([replace(site(10.0), randomness="fixed seed")], DELTA) == math.inf
    assert told([site(10.0), unclipped], DELTA) == math.inf


def test_disjoint_patients_of_one_split_cost_the_larger_not_the_sum():
    training, held_out = sgd(2.0, 0.1, 500, split="s"), histogram(1.5, "test", split="s")
    assert epsilon([training, held_out], DELTA) == max(epsilon([training], DELTA), epsilon([held_out], DELTA))


def test_what_touches_all_patients_is_added_to_both():
    training, held_out, everyone = sgd(2.0, 0.1, 500, split="s"), histogram(1.0, split="s"), histogram(4.0, "all")
    assert epsilon([training, held_out, everyone], DELTA) == max(
        epsilon([training, everyone], DELTA), epsilon([held_out, everyone], DELTA)
    )


@pytest.mark.parametrize("splits", [("s", "t"), ("", "")])
def test_without_one_known_split_nothing_counts_as_disjoint(splits):
    events = [sgd(2.0, 0.1, 500, split=splits[0]), histogram(2.0, "test", split=splits[1])]
    together = [sgd(2.0, 0.1, 500), histogram(2.0, "training")]
    assert epsilon(events, DELTA) == epsilon(together, DELTA)
    assert epsilon(events, DELTA) > epsilon(events[:1], DELTA) + 0.5


@pytest.mark.parametrize("what", [Mechanism(1.0, 0.01), Mechanism(2.0, 0.1), Mechanism(4.0, 0.5), Mechanism(10.0)])
@pytest.mark.parametrize("order", [2, 4, 10, 64])
def test_divergences_equal_those_of_dp_accounting(what, order):
    # dp-accounting gives ε only; 3,000 rounds at one order leave ε = 3000·divergence + conversion, nothing clamped.
    reference = RdpAccountant([order])
    reference.compose(dp.PoissonSampledDpEvent(what.sample_rate, dp.GaussianDpEvent(what.noise_multiplier)), 3000)
    ours = 3000 * renyi(what, order) + accountant.conversion(order, DELTA)
    assert ours == pytest.approx(reference.get_epsilon(DELTA), rel=1e-9)


def test_the_filter_never_says_less_than_the_best_order_or_pld():
    events = [sgd(2.0, 0.1, 500), site(9.0), histogram(3.0, "all")]
    assert epsilon(events, DELTA) < epsilon_rdp(events, DELTA) <= filter_for(8.0, DELTA).spent(events) + 1e-9


@pytest.mark.parametrize("cap", [1.0, 3.2, 8.0])
def test_the_filter_s_order_lets_the_most_releases_fit(cap):
    def fitting(chosen):
        return rounds_that_fit(lambda n: chosen.spent([site(20.0)] * n) <= cap, 2000)

    best = fitting(filter_for(cap, DELTA))
    assert best >= max(fitting(RdpFilter(order, DELTA)) for order in range(2, 40))


@given(st.integers(0, 60), st.integers(0, 50))
def test_rounds_that_fit_is_the_last_one_that_does(limit, most):
    assert rounds_that_fit(lambda n: n <= limit, most) == min(limit, most)


def test_how_many_more_rounds_fit_is_exact():
    spent = [sgd(2.0, 0.1, 20)] * 10
    more = rounds_that_fit(lambda n: epsilon([*spent, *[spent[0]] * n], DELTA) <= 5.0, 40)
    assert epsilon([spent[0]] * (10 + more), DELTA) <= 5.0 < epsilon([spent[0]] * (11 + more), DELTA)
