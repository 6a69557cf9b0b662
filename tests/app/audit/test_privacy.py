"""Audits of every unit: sound mechanisms survive, broken ones and none at all are caught."""

import json

import numpy as np
import pytest

from app.audit import privacy
from app.audit.canaries import Canaries
from app.audit.privacy import Attack, audit
from app.cli import main
from app.config import compose
from strategies.privacy.gaussian import add_noise

SMALL = ["experiment=audit", "preprocess.size=16"]
REPETITIONS = 20


def audited(*overrides, canaries=400, guesses=100, seed=0):
    return audit(compose([*SMALL, *overrides]), Attack(canaries, guesses, seed))


def test_without_privacy_the_attack_shows_more_than_three():
    found = audited("preprocess.size=24", "rounds=1", canaries=1000, guesses=1000)
    assert found.shown > 3
    assert found.holds  # nothing was claimed


@pytest.mark.parametrize("unit", ["patient", "sample"])
def test_private_training_survives(unit):
    found = audited(f"strategy/privacy={unit}", "strategy.privacy.epsilon=1.0")
    assert (found.unit, found.holds) == (unit, True)
    assert found.claimed == pytest.approx(1.0, abs=0.01)


def test_more_epsilon_shows_more():
    little = audited("strategy/privacy=sample", "strategy.privacy.epsilon=0.5")
    much = audited("strategy/privacy=sample", "strategy.privacy.epsilon=200.0")
    assert much.shown > 1.0 > little.shown


def test_an_engine_that_does_not_clip_is_caught(monkeypatch):
    from app.training import private_fit

    real = private_fit.engine

    def without_clipping(name):
        compute = real(name)
        return lambda model, losses, x, y, units, clip: compute(model, losses, x, y, units, clip * 1e6)

    monkeypatch.setattr(private_fit, "engine", without_clipping)
    found = audited("strategy/privacy=patient", "strategy.privacy.epsilon=1.0", "preprocess.size=24")
    assert found.claimed <= 1.0
    assert not found.holds


def test_a_twentieth_of_the_stated_noise_is_caught(monkeypatch):
    from dataclasses import replace

    real = privacy.private_fit
    monkeypatch.setattr(
        privacy, "private_fit",
        lambda *a, noise_multiplier, privacy, **k: real(
            *a, noise_multiplier=noise_multiplier / 20, privacy=replace(privacy), **k
        ),
    )  # fmt: skip
    assert not audited("strategy/privacy=sample", "strategy.privacy.epsilon=0.5").holds


SITE = ["strategy/privacy=site", "strategy.privacy.noise_multiplier=12"]


def test_site_level_noise_survives_two_hundred_canary_hospitals_of_unlike_size():
    found = audited(*SITE, canaries=200, guesses=40)
    assert (found.unit, found.holds) == ("site", True)
    assert 0.3 < found.claimed < 0.5


@pytest.mark.parametrize("broken", ["a twentieth of the noise", "no clipping"])
def test_a_server_that_does_not_do_what_it_states_is_caught(monkeypatch, broken):
    from strategies.privacy import site

    if broken == "a twentieth of the noise":
        monkeypatch.setattr(site, "add_noise", lambda mean, sd, generator: add_noise(mean, sd / 20, generator))
    else:
        monkeypatch.setattr(site.Site, "bound", lambda part, delta, state: {"w": np.float32(20.0) * delta["w"]})
    found = audited(*SITE, canaries=400, guesses=80)
    assert not found.holds


def test_a_formula_that_claims_more_than_it_gives_is_audited_at_what_it_gives():
    found = audited("strategy/privacy=naive_laplace_scale", canaries=200, guesses=60)
    assert found.claimed > 4


def test_a_canary_that_is_out_is_a_patient_of_zeros():
    canaries = Canaries(count=50, crops=2, size=8, seed=3)
    x_BCZYX, _ = canaries.batch(range(100))
    is_zero = ~x_BCZYX.reshape(50, -1).any(axis=1)
    assert (is_zero == ~canaries.is_in).all()
    assert 10 < canaries.is_in.sum() < 40


def test_the_command_prints_both_figures_and_fails_where_the_claim_does(capsys, monkeypatch):
    command = ["audit", "privacy", "--canaries", "200", "--json", *SMALL, "strategy/privacy=sample"]
    assert main(command) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["unit"], said["guesses"], said["holds"]) == ("sample", 40, True)
    monkeypatch.setattr(privacy, "lower_bound", lambda **_: 9.0)
    assert main(command) == 1
    assert main(["audit", "privacy", "--canaries", "1", *SMALL]) == 2


def test_without_a_part_named_every_unit_and_none_are_audited(capsys):
    assert main(["audit", "privacy", "--canaries", "100", "preprocess.size=12"]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()[1:5]]
    assert [row[0] for row in rows] == ["patient", "sample", "site", "none"]
    assert [row[2] for row in rows] == ["20", "20", "20", "100"]
    assert rows[-1][3] == "100"


@pytest.mark.slow
@pytest.mark.parametrize("part", ["patient", "sample", "site"])
def test_twenty_audits_of_every_private_unit_hold(part):
    """Each is wrong with probability 0.0005 at most, so all sixty together with 0.03; ε 0.5 leaves no room to spare."""
    budget = "strategy.privacy.noise_multiplier=12" if part == "site" else "strategy.privacy.epsilon=0.5"
    found = [
        audited(f"strategy/privacy={part}", budget, "preprocess.size=12", canaries=200, guesses=80, seed=seed)
        for seed in range(REPETITIONS)
    ]
    assert all(one.claimed < 0.6 for one in found)
    assert all(one.holds for one in found)
