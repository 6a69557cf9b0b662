import json
from dataclasses import fields, replace

import pytest

from strategies.privacy.events import (
    KINDS,
    DpSgd,
    HistogramRelease,
    NaiveRelease,
    SiteRelease,
    UnknownEventError,
    from_json,
    to_json,
)

EVENTS = [
    DpSgd(
        unit="patient", noise_multiplier=1.1, sample_rate=0.1, steps=20, clip=1.0, split="a1b2", randomness="fixed seed"
    ),
    HistogramRelease(unit="sample", noise_multiplier=8.0, bins=200, population="test"),
    SiteRelease(noise_multiplier=9.3, adjacency="zero-out", clip=1.0, sd=6.1, weights={"A": 0.656, "B": 0.344}),
    NaiveRelease(
        formula="mean-noise", claimed_epsilon=None, noise_multiplier=0.0, clip=None, sd=2.5, weights={"A": 1.0}
    ),
]


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.kind)
def test_an_event_survives_being_written_and_read(event):
    assert from_json(json.loads(json.dumps(to_json(event)))) == event


def test_every_kind_is_tested_here():
    assert {event.kind for event in EVENTS} == set(KINDS)


def test_a_number_is_read_back_exactly():
    event = replace(EVENTS[0], noise_multiplier=0.1 + 0.2)
    assert from_json(json.loads(json.dumps(to_json(event)))).noise_multiplier == 0.1 + 0.2


def test_the_names_on_disk_are_those_of_schema_1():
    # Ledgers outlast versions: removing or renaming any of these makes old ones unreadable.
    assert {kind: [field.name for field in fields(event)] for kind, event in KINDS.items()} == {
        "dp-sgd": ["unit", "noise_multiplier", "sample_rate", "steps", "clip", "population", "split", "randomness"],
        "histogram": ["unit", "noise_multiplier", "bins", "population", "split", "randomness"],
        "site-release": ["noise_multiplier", "adjacency", "clip", "sd", "weights", "count_noise", "randomness"],
        "naive-release": ["formula", "claimed_epsilon", "noise_multiplier", "clip", "sd", "weights", "randomness"],
    }


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"schema": 2}, "schema 2"),
        ({"kind": "exponential"}, "'exponential'"),
        ({"discount": 0.5}, "discount"),
        ({"noise_multiplier": -1.0}, "noise_multiplier"),
        ({"sample_rate": 1.5}, "sample_rate"),
        ({"steps": -1}, "steps"),
    ],
)
def test_what_this_version_cannot_read_is_refused_not_skipped(change, what):
    with pytest.raises(UnknownEventError, match=what):
        from_json({**to_json(EVENTS[0]), **change})


def test_an_event_that_lacks_a_fact_is_refused():
    plain = to_json(EVENTS[0])
    del plain["sample_rate"]
    with pytest.raises(UnknownEventError, match="sample_rate"):
        from_json(plain)


@pytest.mark.parametrize("noise", [-1.0, float("inf"), float("nan")])
def test_a_formula_s_noise_is_a_number_of_its_own(noise):
    with pytest.raises(ValueError, match="noise_multiplier"):
        replace(EVENTS[3], noise_multiplier=noise)
