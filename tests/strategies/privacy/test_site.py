"""The effective noise multiplier: what is added, divided by what one hospital can change.

Sensitivity is measured without noise, site in against site out; the standard deviation is measured on releases, under
both neighbours. With N draws its relative error is 1/√(2N): 0.16 % here, so that ±2 % is more than ten deviations.
"""

import math
from dataclasses import replace

import numpy as np
import pytest
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.serverapp.strategy import DifferentialPrivacyServerSideFixedClipping, FedAvg
from flwr.supercore.task_identity import TaskIdentity

from strategies.aggregate.mean import Mean
from strategies.errors import PartError
from strategies.privacy.accountant import epsilon
from strategies.privacy.events import from_json
from strategies.privacy.generator import Generator
from strategies.privacy.site import Site, SiteAddRemove

COORDINATES = 200_000
CLIP = 0.5
ROOM = 0.02
"""How far from 1 an effective multiplier may be."""

LIDC = {"GE": 530.0, "SIEMENS": 164.0, "PHILIPS": 59.0, "TOSHIBA": 55.0}
EQUAL = dict.fromkeys(LIDC, 1.0)
TWO_OF_FOUR = {"GE": 100.0, "TOSHIBA": 100.0}
ZERO: dict = {}
"""An update that was refused: the engine adds nothing and keeps the weight."""


def updates(hospitals, size=COORDINATES):
    """Far longer than the clip and at right angles to each other: each hospital has its own coordinates."""
    deltas = {}
    for k, name in enumerate(hospitals):
        delta = np.zeros(size, np.float32)
        delta[k :: len(hospitals)] = 1.0 + k
        deltas[name] = {"w": delta, "bias": np.float32(5.0).reshape(())}
    return deltas


def mean_of(part, deltas, factors):
    """What the engine does with a round's replies before the release."""
    fold = Mean().begin(next(delta for delta in deltas.values() if delta))
    for name, delta in deltas.items():
        fold.add(name, part.bound(delta, {}) if delta else {}, part.factor(factors[name]))
    return fold.combine().delta, fold.factors


def released(part, deltas, factors):
    return part.release(*mean_of(part, deltas, factors), {}, {})


def without_noise(part, deltas, factors, monkeypatch):
    with monkeypatch.context() as silent:
        silent.setattr(Generator, "normals", lambda self, count: np.zeros(count, np.float32))
        return released(part, deltas, factors)[0]


def distance(one, other):
    return math.sqrt(sum(float(np.sum((one[n].astype(np.float64) - other[n]) ** 2)) for n in one))


def sensitivity(part, deltas, factors, monkeypatch):
    """The largest change of the noise-free release when one hospital's update becomes zero."""
    whole = without_noise(part, deltas, factors, monkeypatch)
    return max(distance(whole, without_noise(part, {**deltas, name: ZERO}, factors, monkeypatch)) for name in deltas)


def noise_sd(part, deltas, factors, monkeypatch):
    quiet = without_noise(part, deltas, factors, monkeypatch)["w"].astype(np.float64)
    return float(np.std(released(part, deltas, factors)[0]["w"] - quiet))


@pytest.mark.parametrize("noise", [1.0, 4.24])
@pytest.mark.parametrize(
    ("factors", "refused", "other"),
    [
        (EQUAL, (), "GE"),
        (LIDC, (), "GE"),
        (TWO_OF_FOUR, (), "GE"),
        (LIDC, ("SIEMENS",), "GE"),
        (LIDC, ("GE",), "SIEMENS"),
    ],
)
def test_the_multiplier_is_the_stated_one_for_the_weights_of_those_who_replied(
    factors, refused, other, noise, monkeypatch
):
    part, deltas = Site(noise_multiplier=noise, clip=CLIP), updates(factors)
    most = sensitivity(part, deltas, factors, monkeypatch)
    world = deltas | dict.fromkeys(refused, ZERO)
    for neighbour in (world, world | {other: ZERO}):
        assert noise_sd(part, neighbour, factors, monkeypatch) / most == pytest.approx(noise, rel=ROOM)


@pytest.mark.parametrize("factors", [EQUAL, LIDC, TWO_OF_FOUR])
def test_the_fact_recorded_is_what_was_done(factors):
    _, _, facts = released(Site(noise_multiplier=2.0, clip=CLIP), updates(factors, 100), factors)
    event = from_json(facts)
    total = sum(factors.values())
    assert event.noise_multiplier == 2.0
    assert event.weights == {name: factor / total for name, factor in factors.items()}
    assert event.sd == pytest.approx(2.0 * CLIP * max(factors.values()) / total)
    assert event.adjacency == "zero-out"


def flower_round(factors, noise, seen):
    """One aggregation of Flower's wrapper: four hospitals expected, those in `factors` reply."""
    wrapper = DifferentialPrivacyServerSideFixedClipping(FedAvg(), noise, CLIP, num_sampled_clients=4)
    wrapper.current_arrays = ArrayRecord([np.zeros(COORDINATES, np.float32)])
    replies = []
    for node, (name, delta) in enumerate(seen.items()):
        request = Message(RecordDict({"config": ConfigRecord()}), dst_node_id=node + 1, message_type="train")
        content = RecordDict(
            {"arrays": ArrayRecord([delta]), "metrics": MetricRecord({"num-examples": int(factors[name])})}
        )
        replies.append(Message(content, reply_to=request))
    arrays, _ = wrapper.aggregate_train(1, replies)
    return arrays.to_numpy_ndarrays()[0].astype(np.float64)


def flower_multiplier(factors):
    deltas = {name: delta["w"] for name, delta in updates(factors).items()}
    whole = flower_round(factors, 0.0, deltas)
    # Flower's wrapper fails on an update of zeros (division by its norm); a tiny one stands for it.
    tiny = np.full(COORDINATES, 1e-12, np.float32)
    changes = [np.linalg.norm(whole - flower_round(factors, 0.0, {**deltas, name: tiny})) for name in deltas]
    return float(np.std(flower_round(factors, 1.0, deltas) - whole)) / max(changes)


def test_flowers_wrapper_has_less_noise_than_it_states_where_ours_has_what_it_states(monkeypatch):
    for name in ("_task_id", "_run_id", "_node_id"):  # Flower's messages ask which task makes them
        monkeypatch.setattr(TaskIdentity, name, 1)
    # z·C/n against C·max w: (1/4) / (530/808) = 0.381 with LIDC's sizes, (1/4) / (1/2) = 0.5 with two of four replies
    for factors, flower in ((EQUAL, 1.0), (LIDC, 0.381), (TWO_OF_FOUR, 0.500)):
        part, deltas = Site(noise_multiplier=1.0, clip=CLIP), updates(factors)
        ours = noise_sd(part, deltas, factors, monkeypatch) / sensitivity(part, deltas, factors, monkeypatch)
        assert ours == pytest.approx(1.0, rel=ROOM)
        assert flower_multiplier(factors) == pytest.approx(flower, rel=ROOM)


def test_what_the_missing_noise_costs():
    # z 0.381 over ten rounds instead of the stated 1
    stated = released(Site(noise_multiplier=1.0, clip=CLIP), updates(LIDC, 100), LIDC)[2]
    event = from_json(stated)
    assert epsilon([event] * 10, 1e-5) == pytest.approx(17.9, abs=0.1)
    assert epsilon([replace(event, noise_multiplier=0.381)] * 10, 1e-5) == pytest.approx(69.0, abs=0.5)


def add_remove(noise=1.0, cap=200.0, denominator=500.0):
    return SiteAddRemove(noise_multiplier=noise, clip=CLIP, weight_cap=cap, denominator=denominator)


@pytest.mark.parametrize("present", [LIDC, TWO_OF_FOUR, EQUAL])
def test_removing_a_hospital_altogether_moves_the_sum_by_less_than_the_noise_covers(present, monkeypatch):
    part, deltas = add_remove(), updates(present)
    whole = without_noise(part, deltas, present, monkeypatch)
    for name in present:
        rest = {other: delta for other, delta in deltas.items() if other != name}
        moved = distance(whole, without_noise(part, rest, present, monkeypatch))
        assert moved <= CLIP * 200.0 / 500.0
    if present is LIDC:  # GE's 530 are capped at 200: the bound is reached
        rest = {other: delta for other, delta in deltas.items() if other != "GE"}
        moved = distance(whole, without_noise(part, rest, present, monkeypatch))
        assert noise_sd(part, deltas, present, monkeypatch) / moved == pytest.approx(1.0, rel=ROOM)


def test_add_remove_noise_does_not_tell_who_was_there():
    part = add_remove(noise=3.0)
    assert part.noise_sd(LIDC) == part.noise_sd(TWO_OF_FOUR) == 3.0 * CLIP * 200.0 / 500.0


def test_add_remove_divides_by_the_public_denominator(monkeypatch):
    # GE capped: (200·1 + 55·1) / 500 of a clipped update each on its own coordinate
    part = SiteAddRemove(noise_multiplier=1.0, clip=10.0, weight_cap=200.0, denominator=500.0)
    deltas = {"GE": {"w": np.array([1.0, 0.0])}, "TOSHIBA": {"w": np.array([0.0, 1.0])}}
    total = without_noise(part, deltas, {"GE": 530.0, "TOSHIBA": 55.0}, monkeypatch)
    np.testing.assert_allclose(total["w"], [200 / 500, 55 / 500])


def test_integers_are_not_released():
    mean = {"w": np.zeros(3, np.float32), "seen": np.asarray(530)}
    assert set(Site(noise_multiplier=1.0, clip=CLIP).release(mean, EQUAL, {}, {})[0]) == {"w"}
    assert set(add_remove().release(mean, EQUAL, {}, {})[0]) == {"w"}


def test_two_releases_never_share_noise():
    part, mean = Site(noise_multiplier=1.0, clip=CLIP), {"w": np.zeros(1000, np.float32)}
    first, state, _ = part.release(mean, EQUAL, {}, {})
    again, after, _ = part.release(mean, EQUAL, {}, {})
    assert not np.isin(first["w"], again["w"]).any()
    assert state == after == {"releases": 1}


def test_a_fixed_seed_repeats_each_release_and_claims_no_epsilon():
    part, mean = Site(noise_multiplier=1.0, clip=CLIP, fixed_seed=3), {"w": np.zeros(100, np.float32)}
    first, state, facts = part.release(mean, EQUAL, {}, {})
    np.testing.assert_array_equal(part.release(mean, EQUAL, {}, {})[0]["w"], first["w"])
    assert not np.isin(part.release(mean, EQUAL, state, {})[0]["w"], first["w"]).any()
    assert from_json(facts).randomness == "fixed seed"
    assert epsilon([from_json(facts)], 1e-5) == math.inf


@pytest.mark.parametrize("setting", [{"noise_multiplier": 0.0}, {"clip": -1.0}, {"clip": math.nan}])
def test_settings_that_make_no_sense_are_refused(setting):
    with pytest.raises(PartError, match=next(iter(setting))):
        Site(**{"noise_multiplier": 1.0, "clip": 1.0, **setting})
    with pytest.raises(PartError, match="denominator"):
        add_remove(denominator=0.0)
