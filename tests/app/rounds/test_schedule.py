"""The learning rate over rounds."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.config import build, compose
from app.rounds.schedule import Schedule


def factors(rounds, **settings):
    return [Schedule(**settings).scale(round, rounds=rounds) for round in range(1, rounds + 1)]


def test_constant_is_one_in_every_round():
    assert factors(5) == [1.0] * 5
    assert build(compose([])["schedule"]) == Schedule()


def test_warm_up_climbs_in_equal_steps_to_one():
    assert factors(5, warmup=3) == [0.25, 0.5, 0.75, 1.0, 1.0]


def test_the_cosine_falls_as_its_formula_says():
    # W 1, R 5: t = 0, 1/4, 1/2, 3/4 in rounds 2 … 5; f 0.2
    expected = [0.5, *(0.2 + 0.8 * (1 + math.cos(math.pi * t)) / 2 for t in (0, 0.25, 0.5, 0.75))]
    assert factors(5, warmup=1, floor=0.2) == pytest.approx(expected)


@given(rounds=st.integers(1, 60), warmup=st.integers(0, 80), floor=st.floats(0, 1))
def test_every_round_learns_something_and_none_more_than_configured(rounds, warmup, floor):
    made = factors(rounds, warmup=warmup, floor=floor)
    assert all(0 < factor <= 1 for factor in made)
    after = made[warmup:]
    assert after == sorted(after, reverse=True)


@pytest.mark.parametrize("setting", [{"warmup": -1}, {"floor": -0.1}, {"floor": 1.1}])
def test_settings_out_of_range_are_refused_by_name(setting):
    with pytest.raises(ValueError, match=f"schedule.{next(iter(setting))}"):
        Schedule(**setting)
