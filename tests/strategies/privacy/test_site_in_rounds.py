"""Site-level privacy inside the round engine: what the mechanism is handed is what its guarantee assumes."""

import math

import numpy as np
import pytest

from strategies.privacy.adaptive import SiteAdaptive
from strategies.privacy.events import from_json
from strategies.privacy.naive import NaiveMeanNoise
from strategies.privacy.site import Site, SiteAddRemove
from strategies.server_opt import Sgd
from tests.strategies.fakes import FakeGrid, Hospital, course, federated, silent

COORDINATES = 100_000
CLIP = 2.0
SIZES = {"GE": 530, "SIEMENS": 164, "PHILIPS": 59, "TOSHIBA": 55}
# relative standard error of a deviation measured on 100,000 draws: 0.22 %; the bound of 2 % is nine of them


def updates(**changed):
    """Long updates at right angles to each other; `changed` ones have every coordinate as given."""
    deltas = {}
    for k, name in enumerate(SIZES):
        delta = np.zeros(COORDINATES, np.float32)
        delta[k::4] = 1.0
        deltas[name] = np.full(COORDINATES, changed[name], np.float32) if name in changed else delta
    return {name: Hospital({"w": delta}, patients=SIZES[name]) for name, delta in deltas.items()}


def one_round(privacy, hospitals, **settings):
    """The change of the model, and the facts of the round."""
    roster = {name: node for node, name in enumerate(hospitals, start=10)}
    grid = FakeGrid({roster[name]: hospital for name, hospital in hospitals.items()})
    facts = []
    strategy = federated(privacy=privacy, server_opt=Sgd())
    model = {"w": np.zeros(COORDINATES, np.float32)}
    state, _ = strategy.run(grid, course(roster, model, after_round=lambda state, fact: facts.append(fact), **settings))
    return state.model["w"].astype(np.float64), facts[-1]


def expected(hospitals, zero=()):
    """Σ wᵢ·clip(Δᵢ) in float64, with the weights of all who replied."""
    total = sum(hospital.patients for hospital in hospitals.values())
    mean = np.zeros(COORDINATES)
    for name in hospitals.keys() - set(zero):
        delta = hospitals[name].delta["w"].astype(np.float64)
        mean += hospitals[name].patients / total * delta * min(1.0, CLIP / np.linalg.norm(delta))
    return mean


@pytest.mark.parametrize(("bad", "code"), [(0.0, "zero-update"), (math.nan, "not-finite")])
@pytest.mark.parametrize("who", ["GE", "TOSHIBA"])
def test_a_refused_update_counts_as_zero_and_keeps_its_weight(bad, code, who):
    hospitals = updates(**{who: bad})
    change, facts = one_round(Site(noise_multiplier=1.0, clip=CLIP), hospitals)
    assert [(refusal.hospital, refusal.code) for refusal in facts.refused] == [(who, code)]
    noise = change - expected(hospitals, zero=[who])
    assert noise.std() == pytest.approx(CLIP * 530 / 808, rel=0.02)
    assert abs(noise.mean()) < 5 * noise.std() / math.sqrt(COORDINATES)
    assert from_json(facts.privacy).weights == {name: size / 808 for name, size in SIZES.items()}


def test_the_noise_follows_those_who_replied():
    hospitals = {**updates(), "GE": silent}
    change, facts = one_round(Site(noise_multiplier=1.0, clip=CLIP), hospitals)
    replied = {name: hospital for name, hospital in hospitals.items() if name != "GE"}
    assert (change - expected(replied)).std() == pytest.approx(CLIP * 164 / 278, rel=0.02)
    assert set(from_json(facts.privacy).weights) == {"SIEMENS", "PHILIPS", "TOSHIBA"}


def test_a_huge_update_is_clipped_not_left_out():
    hospitals = updates(SIEMENS=1e6)
    change, facts = one_round(Site(noise_multiplier=0.01, clip=CLIP), hospitals)
    assert facts.refused == ()
    np.testing.assert_allclose(change, expected(hospitals), atol=6 * 0.01 * CLIP * 530 / 808)


def test_add_remove_noise_is_the_same_whoever_replied():
    part = SiteAddRemove(noise_multiplier=1.0, clip=CLIP, weight_cap=100.0, denominator=400.0)
    for hospitals in (updates(), {**updates(), "GE": silent, "SIEMENS": silent}):
        change, facts = one_round(part, hospitals)
        assert change.std() == pytest.approx(CLIP * 100 / 400, rel=0.02)
        assert from_json(facts.privacy).adjacency == "add-remove"


def test_each_round_has_its_own_noise_and_its_own_event():
    hospitals = updates()
    lines = []
    roster = {name: node for node, name in enumerate(hospitals, start=10)}
    grid = FakeGrid({roster[name]: hospital for name, hospital in hospitals.items()})
    strategy = federated(privacy=Site(noise_multiplier=1.0, clip=CLIP, fixed_seed=1))
    models = []

    def after_round(state, facts):
        models.append(state.model["w"])
        lines.append(from_json(facts.privacy))

    model = {"w": np.zeros(COORDINATES, np.float32)}
    state, _ = strategy.run(grid, course(roster, model, after_round=after_round, rounds=3))
    first, second, third = models[0], models[1] - models[0], models[2] - models[1]
    for one, other in ((first, second), (second, third), (first, third)):
        assert abs(np.corrcoef(one, other)[0, 1]) < 5 / math.sqrt(COORDINATES)
    assert len(lines) == 3
    assert state.facts["privacy"] == {"releases": 3}


def test_a_formula_in_circulation_runs_and_tells_what_it_did():
    change, facts = one_round(NaiveMeanNoise(claimed_epsilon=1.0, clip=CLIP), updates())
    event = from_json(facts.privacy)
    assert change.std() == pytest.approx(2.5, rel=0.02)
    assert event.noise_multiplier == pytest.approx(2.5 / (CLIP * 530 / 808))


def test_a_zero_update_changes_neither_the_quorum_nor_who_is_asked_next():
    # Under the neighbour a hospital's update is zero in every round; whatever else that changed would tell.
    hospitals = updates(GE=0.0)
    roster = {name: node for node, name in enumerate(hospitals, start=10)}
    grid = FakeGrid({roster[name]: hospital for name, hospital in hospitals.items()})
    facts = []
    model = {"w": np.zeros(COORDINATES, np.float32)}
    federated(privacy=Site(noise_multiplier=1.0, clip=CLIP)).run(
        grid, course(roster, model, after_round=lambda state, fact: facts.append(fact), rounds=6, quorum=4)
    )
    assert [fact.failed for fact in facts] == [""] * 6
    assert [set(fact.asked) for fact in facts] == [set(SIZES)] * 6


def adaptive_rounds(hospitals, rounds):
    """Bounds after each round, and the facts of each, with the noise on sum and count far below what is measured."""
    roster = {name: node for node, name in enumerate(hospitals, start=10)}
    grid = FakeGrid({roster[name]: hospital for name, hospital in hospitals.items()})
    bounds, facts = [], []

    def after_round(state, fact):
        bounds.append(state.facts["privacy"]["clip"])
        facts.append(fact)

    part = SiteAdaptive(noise_multiplier=1.0, clip=1.0, hospitals=40, rate=0.5)
    model = {"w": np.zeros(COORDINATES, np.float32)}
    federated(privacy=part).run(grid, course(roster, model, after_round=after_round, rounds=rounds))
    return bounds, facts


def test_the_bound_follows_the_norms_of_the_round_s_updates():
    # every norm is 10 and the bound 1: a share of 0 is within, so log C rises by rate · quantile = 0.25 a round; the
    # count's noise (σ_b = 2 of 40 hospitals) moves it by 0.025
    long = {"w": np.full(COORDINATES, 10 / math.sqrt(COORDINATES), np.float32)}
    bounds, facts = adaptive_rounds({f"H{k:02d}": Hospital(long) for k in range(40)}, rounds=3)
    assert np.diff(np.log([1.0, *bounds])) == pytest.approx([0.25] * 3, abs=5 * 0.025)
    assert [from_json(fact.privacy).clip for fact in facts] == pytest.approx([1.0, *bounds[:2]])
    assert list(facts[0].norms.values()) == pytest.approx([10.0] * 40, rel=1e-4)


def test_a_refused_update_counts_for_neither_side_of_the_bound():
    # 20 within, 20 of zeros: b = ½ + (20 · ½) / 40 = 0.75, so log C falls by 0.5 · 0.25 = 0.125
    short = {"w": np.full(COORDINATES, 0.1 / math.sqrt(COORDINATES), np.float32)}
    zero = {"w": np.zeros(COORDINATES, np.float32)}
    hospitals = {f"H{k:02d}": Hospital(zero if k % 2 else short) for k in range(40)}
    (bound,), (facts,) = adaptive_rounds(hospitals, rounds=1)
    assert math.log(bound) == pytest.approx(-0.125, abs=5 * 0.025)
    assert {refusal.code for refusal in facts.refused} == {"zero-update"}
