"""One round of DP-SGD against a plain loop with the same draws, and what each part of it promises."""

import copy
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional

from app.config import compose
from app.training.fit import Training
from app.training.private_fit import Drawn, Units, private_fit
from strategies.errors import PartError
from strategies.local.prox import Prox
from strategies.privacy.generator import FixedSeed, SystemRandomness
from strategies.privacy.patient import PrivateTraining

SGD = Training(lr=0.5, optimiser="sgd", batch_size=5)
PRIVATE = PrivateTraining(
    unit="patient", epsilon=None, noise_multiplier=1.0, delta=1e-5, clip=0.05, sample_rate=0.5, steps=3, crops=2,
    is_balanced=False, engine="fast", fixed_seed=7,
)  # fmt: skip
NO_NOISE = 1e-12


class Cohort:
    """Crops in memory that know their patients: p0 has one crop, p1 two, p2 three, and so on."""

    def __init__(self, crops, patients):
        self._crops, self.patients, self.labels = crops, tuple(patients), crops.labels

    def __len__(self):
        return len(self._crops)

    def batch(self, indices, **how):
        return self._crops.batch(np.asarray(indices), **how)


@pytest.fixture
def cohort(make_crops):
    owners = [f"p{patient}" for patient in range(6) for _ in range(patient + 1)]
    return Cohort(make_crops(len(owners), size=8), np.random.default_rng(3).permutation(owners))


def trained(model, cohort, privacy, *, noise, training=SGD, local=None, generator=None):
    made = copy.deepcopy(model)
    done = private_fit(
        made, cohort, privacy=privacy, noise_multiplier=noise, generator=generator or privacy.randomness.open("x"),
        training=training, device=torch.device("cpu"), local=local,
    )  # fmt: skip
    return made, done


def plain_loop(model, cohort, privacy, local_mu=0.0):
    """Abadi et al., algorithm 1, written out: float64, one backward a patient, no noise."""
    made = copy.deepcopy(model).double()
    start = [p.detach().clone() for p in made.parameters()]
    generator, units = privacy.randomness.open("x"), Units.of(cohort, privacy.unit)
    for _ in range(privacy.steps_a_round):
        drawn = units.draw(generator, privacy)
        generator.bits(4)
        total = [torch.zeros_like(p) for p in made.parameters()]
        for unit, count in enumerate(drawn.counts):
            first = sum(drawn.counts[:unit])
            x, y = cohort.batch(drawn.rows[first : first + count])
            loss = functional.binary_cross_entropy_with_logits(
                made(torch.from_numpy(x).double()).squeeze(1), torch.from_numpy(y).double()
            )
            gradients = torch.autograd.grad(loss, list(made.parameters()))
            norm = math.sqrt(sum(float(g.square().sum()) for g in gradients))
            for t, g in zip(total, gradients, strict=True):
                t += g * min(1.0, privacy.clip / norm)
        for t in total:
            generator.normals(t.numel())
        with torch.no_grad():
            for p, t, begin in zip(made.parameters(), total, start, strict=True):
                gradient = t / (privacy.sample_rate * len(units)) + local_mu * (p - begin)
                p -= SGD.lr * gradient
    return made


def flat(model):
    return torch.cat([p.detach().double().flatten() for p in model.parameters()])


def largest_gap(a, b):
    return float((flat(a) - flat(b)).abs().max())


@pytest.mark.parametrize("unit", ["patient", "sample"])
def test_without_noise_it_is_the_plain_loop_over_the_same_draws(make_model, cohort, unit):
    privacy = replace(PRIVATE, unit=unit)
    made, done = trained(make_model(), cohort, privacy, noise=NO_NOISE)
    assert largest_gap(made, plain_loop(make_model(), cohort, privacy)) < 2e-6
    assert largest_gap(made, make_model()) > 1e-3
    assert (done.steps, math.isnan(done.loss)) == (3, True)


def test_how_many_crops_are_computed_at_once_changes_no_result(make_model, cohort):
    alone, _ = trained(make_model(), cohort, PRIVATE, noise=NO_NOISE, training=replace(SGD, batch_size=1))
    together, _ = trained(make_model(), cohort, PRIVATE, noise=NO_NOISE, training=replace(SGD, batch_size=100))
    assert largest_gap(alone, together) < 1e-6


def test_the_algorithm_s_own_term_is_added_after_the_noise(make_model, cohort):
    made, _ = trained(make_model(), cohort, PRIVATE, noise=NO_NOISE, local=Prox(mu=0.8))
    assert largest_gap(made, plain_loop(make_model(), cohort, PRIVATE, local_mu=0.8)) < 2e-6


def test_nobody_drawn_is_a_step_of_noise_alone(make_model, cohort):
    """One SGD step moves every weight by lr · z·C·N(0, 1) / (q·N)."""
    privacy = replace(PRIVATE, sample_rate=1e-9, steps=1)
    training = replace(SGD, lr=1e-7)
    made, _ = trained(make_model(), cohort, privacy, noise=3.0, training=training, generator=SystemRandomness().open())
    # In units of the stated deviation, which is 2.5: float32 weights resolve it well.
    moved = (flat(made) - flat(make_model())) / (1e-7 * 3.0 * 0.05 / (1e-9 * 6))
    assert float(moved.mean()) == pytest.approx(0.0, abs=5 / math.sqrt(len(moved)))
    assert float(moved.std()) == pytest.approx(1.0, abs=5 / math.sqrt(2 * len(moved)))


def test_noise_has_the_stated_deviation_whoever_is_drawn(make_model, cohort):
    """Two runs with equal draws and different multipliers differ by noise alone: the deviation follows exactly."""
    privacy = replace(PRIVATE, steps=1)
    quiet, _ = trained(make_model(), cohort, privacy, noise=NO_NOISE)
    loud, _ = trained(make_model(), cohort, privacy, noise=2.0)
    gap = flat(loud) - flat(quiet)
    expected = SGD.lr * 2.0 * privacy.clip / (privacy.sample_rate * 6)
    assert float(gap.std()) == pytest.approx(expected, rel=5 / math.sqrt(2 * len(gap)))


def test_two_rounds_of_the_same_hospital_share_neither_draw_nor_noise(make_model, cohort):
    secret = replace(PRIVATE, fixed_seed=None)
    one, _ = trained(make_model(), cohort, secret, noise=1.0)
    two, _ = trained(make_model(), cohort, secret, noise=1.0)
    assert largest_gap(one, two) > 1e-3


def test_a_unit_is_all_crops_of_a_patient_and_no_other(cohort):
    units = Units.of(cohort, "patient")
    assert sorted(map(len, units.rows)) == [1, 2, 3, 4, 5, 6]
    assert all(len({cohort.patients[row] for row in rows}) == 1 for rows in units.rows)
    assert sorted(np.concatenate(units.rows)) == list(range(21))


def test_a_patient_s_draw_is_capped_and_depends_on_that_patient_alone(cohort):
    units, privacy = Units.of(cohort, "patient"), replace(PRIVATE, sample_rate=1.0)
    seen = set()
    for round in range(40):
        drawn = units.draw(FixedSeed(1).open(round), privacy)
        assert drawn.counts == (1, 2, 2, 2, 2, 2)
        assert len(set(drawn.rows)) == sum(drawn.counts)
        seen |= set(drawn.rows.tolist())
    assert seen == set(range(21))


def test_labels_take_turns_where_the_draw_is_balanced(cohort):
    labels = np.array([1, 0, 0, 0, 0, 0])
    units = Units((np.arange(6),), labels)
    privacy = replace(PRIVATE, sample_rate=1.0, is_balanced=True)
    for round in range(30):
        assert sorted(labels[units.draw(FixedSeed(2).open(round), privacy).rows]) == [0, 1]


def test_pieces_hold_whole_units_and_every_crop_once():
    drawn = Drawn(np.arange(12), (1, 5, 2, 3, 1))
    pieces = list(drawn.pieces(6))
    assert [piece.counts for piece in pieces] == [(1, 5), (2, 3, 1)]
    assert np.concatenate([piece.rows for piece in pieces]).tolist() == list(range(12))
    assert [piece.counts for piece in drawn.pieces(1)] == [(1,), (5,), (2,), (3,), (1,)]
    assert list(Drawn(np.empty(0, int), ()).pieces(6)) == []


def test_opacus_gives_the_same_round(make_model, cohort):
    fast, _ = trained(make_model(), cohort, PRIVATE, noise=NO_NOISE)
    slow, _ = trained(make_model(), cohort, replace(PRIVATE, engine="opacus"), noise=NO_NOISE)
    assert largest_gap(fast, slow) < 5e-6


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"epsilon": 1.0}, "give one of them"),
        ({"noise_multiplier": None}, "give one of them"),
        ({"noise_multiplier": 0.0}, "noise_multiplier is 0.0"),
        ({"noise_multiplier": None, "epsilon": -1.0}, "epsilon is -1.0"),
        ({"delta": 1.0}, "delta is 1.0"),
        ({"sample_rate": 0.0}, "sample_rate is 0.0"),
        ({"clip": 0.0}, "clip is 0.0"),
        ({"crops": 0}, "crops is 0"),
        ({"steps": 0}, "steps is 0"),
        ({"engine": "magic"}, "engine is magic"),
        ({"unit": "site"}, "unit is site"),
    ],
)
def test_settings_that_promise_nothing_are_refused(changed, said):
    with pytest.raises(PartError, match=said):
        replace(PRIVATE, **changed)


@pytest.mark.parametrize("name", ["patient", "sample"])
def test_the_noise_of_a_preset_costs_what_it_asks_for(name):
    from app.privacy.terms import terms_of

    terms = terms_of(compose([f"strategy/privacy={name}", "strategy.privacy.epsilon=3.2", "rounds=12"]))
    assert 3.19 < terms.promised <= 3.2
    assert terms.part.unit == name
    assert terms.part.steps_a_round == 10
