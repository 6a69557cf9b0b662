"""What a hospital may say of itself: nothing that could end the round of the others."""

import math

import pytest

from strategies import records
from strategies.aggregate.krum import Krum
from strategies.errors import NoWeight, RecordError
from strategies.selection import Dynamic
from strategies.types import Report
from strategies.weighting import Product, Quality, Recency, Size
from tests.strategies.fakes import Hospital, codes, federated, run, vector
from tests.strategies.records.test_records import asked

HUGE = 10**9 + 1

IMPOSSIBLE = [
    *[("score", value) for value in (math.inf, -math.inf, 1e30, 1.01, -0.01)],
    *[("seconds", value) for value in (math.inf, math.nan, -1.0, 1e300)],
    *[("memory_mb", value) for value in (math.inf, math.nan, -1.0)],
    *[("data_age_months", value) for value in (math.inf, -math.inf, 1e300)],
    *[(name, HUGE) for name in ("patients", "crops", "steps", "round")],
    ("histogram", [HUGE]),
]


def read(**facts):
    message = records.reply(asked(), {"values": vector(1)}, Report("A", 3, 1, 1))
    message.content[records.REPORT].update(facts)
    return records.read_report(message)


@pytest.mark.parametrize(("field", "value"), IMPOSSIBLE)
def test_what_cannot_be_is_refused_by_name(field, value):
    with pytest.raises(RecordError, match=f"{field} of the wrong type or out of range"):
        read(**{field: value})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("score", 0.0), ("score", 1.0), ("score", 1), ("seconds", 0.0), ("seconds", 86_400.0), ("memory_mb", 2e6),
        ("data_age_months", 240.0), ("data_age_months", -1.0), ("steps", 10**9), ("patients", 0), ("loss", math.inf),
    ],
)  # fmt: skip
def test_what_can_be_passes(field, value):
    assert getattr(read(**{field: value}), field) == value


@pytest.mark.parametrize("field", ["score", "data_age_months", "loss"])
def test_nan_is_as_good_as_not_told(field):
    assert math.isnan(getattr(read(**{field: math.nan}), field))


WEIGHTING = Product([Size(), Quality(), Recency(0.0, "months")])


@pytest.mark.parametrize(("field", "value"), [case for case in IMPOSSIBLE if case[0] != "histogram"])
def test_one_hospitals_report_ends_nobody_elses_round(field, value):
    facts = {"score": 0.8, "data_age_months": 1.0, "seconds": 1.0}
    hospitals = {name: Hospital(vector(1, 1), facts=facts) for name in "ABC"}
    hospitals["X"] = Hospital(vector(9, 9), facts={**facts, field: value})
    strategy = federated(weighting=WEIGHTING, selection=Dynamic(1.0, 1.0))
    state, stop, rounds, _ = run(hospitals, strategy, rounds=2)
    assert stop.reason == "rounds"
    assert [codes(facts) for facts in rounds] == [{"X": "malformed"}] * 2
    assert state.model["w"].tolist() == [2, 2]


def test_a_score_of_nan_under_quality_weighting_is_that_hospitals_refusal():
    good = {name: Hospital(vector(1, 1), facts={"score": 0.8}) for name in "AB"}
    bad = Hospital(vector(9, 9), facts={"score": math.nan})
    _, _, (facts,), _ = run({**good, "X": bad}, federated(weighting=Quality()))
    assert codes(facts) == {"X": "no-weight-fact"}


class Spoiled:
    """A weighting that gives X something that is no factor."""

    needs_score = False

    def __init__(self, factor):
        self.value = factor

    def factor(self, report, round):
        return self.value if report.hospital == "X" else 1.0


@pytest.mark.parametrize("factor", [math.nan, math.inf, -1.0])
def test_a_factor_that_is_no_weight_is_that_hospitals_refusal(factor):
    hospitals = {name: Hospital(vector(1, 1)) for name in "AB"} | {"X": Hospital(vector(9, 9))}
    state, _, (facts,), _ = run(hospitals, federated(weighting=Spoiled(factor)))
    assert codes(facts) == {"X": "bad-factor"}
    assert state.model["w"].tolist() == [1, 1]


def test_krum_goes_on_with_an_update_of_a_hospital_that_says_it_has_no_patients():
    hospitals = {name: Hospital(vector(v, v), patients=0) for name, v in zip("ABCDE", (1, 2, 2.9, 4, 50), strict=True)}
    hospitals["E"].patients = 9
    state, _, (facts,), _ = run(hospitals, federated(aggregate=Krum(1)))
    assert facts.weights["B"] == 1
    assert state.model["w"].tolist() == [2, 2]
    with pytest.raises(NoWeight):  # of a mean there is nothing left
        run(hospitals | {"E": Hospital(vector(1, 1), patients=0)})
