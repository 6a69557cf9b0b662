import math

import dp_accounting as dp
import numpy as np
import pytest
from dp_accounting.pld import PLDAccountant

from strategies.errors import PartError
from strategies.privacy.accountant import epsilon
from strategies.privacy.adaptive import SiteAdaptive, within
from strategies.privacy.events import from_json

ZERO = {"w": np.zeros(1000, np.float32)}


def part(**settings):
    return SiteAdaptive(**{"noise_multiplier": 4.0, "clip": 1.0, "hospitals": 200, **settings})


def run(chosen, norms, rounds):
    """C after each round, with updates of these norms."""
    state, clips = {}, []
    factors = {str(k): 1.0 for k in range(len(norms))}
    for _ in range(rounds):
        _, state, _ = chosen.release(ZERO, factors, state, {str(k): norm for k, norm in enumerate(norms)})
        clips.append(state["clip"])
    return clips


def test_the_bound_grows_while_updates_are_clipped_and_shrinks_while_they_are_not():
    # noise on the share is 5 %, the target 0.5 away: each step's sign is certain to ten standard deviations
    growing, shrinking = run(part(), [100.0] * 200, 20), run(part(), [1e-6] * 200, 20)
    assert growing == sorted(growing)
    assert shrinking == sorted(shrinking, reverse=True)
    assert growing[-1] == pytest.approx(math.exp(0.2 * 0.5 * 20), rel=0.3)
    assert shrinking[-1] == pytest.approx(math.exp(-0.2 * 0.5 * 20), rel=0.3)


@pytest.mark.parametrize("quantile", [0.3, 0.5, 0.8])
def test_the_bound_settles_at_the_quantile_asked_for(quantile):
    norms = np.exp(np.random.default_rng(0).normal(1.0, 0.5, size=400))
    clips = run(part(hospitals=400, quantile=quantile, fixed_seed=1), list(norms), 150)
    settled = np.mean(np.searchsorted(np.sort(norms), clips[75:])) / norms.size
    assert settled == pytest.approx(quantile, abs=0.05)


def test_sum_and_count_together_cost_what_is_recorded():
    chosen = part()
    event = from_json(chosen.release(ZERO, {"a": 3.0, "b": 1.0}, {}, {"a": 2.0, "b": 0.1})[2])
    both = PLDAccountant(dp.NeighboringRelation.ADD_OR_REMOVE_ONE, 1e-3)
    both.compose(dp.GaussianDpEvent(chosen.sum_noise_multiplier))
    both.compose(dp.GaussianDpEvent(2.0 * chosen.count_noise))
    assert event.noise_multiplier == 4.0
    assert epsilon([event], 1e-5) == pytest.approx(both.get_epsilon(1e-5), abs=1e-4)


def test_the_sum_s_noise_is_larger_than_without_the_count():
    chosen = part()
    # 1/16 − 1/20² = 0.06 → z_Δ = 4.08
    assert chosen.sum_noise_multiplier == pytest.approx(4.0825, abs=1e-4)
    zero = {"w": np.zeros(200_000, np.float32)}
    released, _, facts = chosen.release(zero, {"a": 3.0, "b": 1.0}, {"clip": 0.5, "releases": 4}, {})
    event = from_json(facts)
    assert event.sd == pytest.approx(4.0825 * 0.5 * 0.75, rel=1e-4)
    assert event.clip == 0.5
    assert float(released["w"].std()) == pytest.approx(event.sd, rel=0.01)  # six standard errors


def test_updates_are_clipped_to_the_bound_of_the_round():
    long = {"w": np.full(100, 5.0, np.float32)}
    assert np.linalg.norm(part().bound(long, {})["w"]) == pytest.approx(1.0, rel=1e-4)
    assert np.linalg.norm(part().bound(long, {"clip": 0.25, "releases": 9})["w"]) == pytest.approx(0.25, rel=1e-4)


@pytest.mark.parametrize("norm", [0.5, 1.0, 2.0])
def test_one_hospitals_update_set_to_zero_moves_the_count_by_a_half(norm):
    others = [0.3, 0.9, 4.0]
    moved = within(1.0, [*others, norm], 0.0) - within(1.0, [*others, 0.0], 0.0)
    assert abs(moved) * 4 == pytest.approx(0.5)


def test_the_noise_of_the_count_has_the_stated_deviation():
    # C after one round tells the noised share of the two that replied; neither norm counts
    draws = [math.log(run(part(rate=1.0), [0.0] * 2, 1)[0]) for _ in range(3000)]
    # relative standard error 1/√6000 = 1.3 %: five of them
    assert float(np.std(draws)) == pytest.approx(part().count_noise / 2, rel=0.065)


@pytest.mark.parametrize(("hospitals", "noise"), [(3, 1.0), (10, 1.0), (40, 4.0)])
def test_too_few_hospitals_are_refused_with_the_number_that_is_needed(hospitals, noise):
    with pytest.raises(PartError, match="too few") as refused:
        part(hospitals=hospitals, noise_multiplier=noise)
    needed = int(str(refused.value).split("at least ")[1].split()[0])
    enough = part(hospitals=needed, noise_multiplier=noise)
    assert enough.count_noise > noise / 2
    assert enough.least == needed
    with pytest.raises(PartError, match="too few"):
        part(hospitals=needed - 1, noise_multiplier=noise)


@pytest.mark.parametrize("setting", [{"quantile": 0.0}, {"quantile": 1.0}, {"rate": 0.0}, {"clip": 0.0}])
def test_settings_that_make_no_sense_are_refused(setting):
    with pytest.raises(PartError, match=next(iter(setting))):
        part(**setting)
