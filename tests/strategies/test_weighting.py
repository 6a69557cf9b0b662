import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from strategies.aggregate.mean import normalised
from strategies.errors import MissingFact, NoWeight, PartError
from strategies.types import Report
from strategies.weighting import Equal, Product, Quality, Recency, Size

REPORTS = st.builds(
    Report,
    hospital=st.text("ABC", min_size=1),
    round=st.integers(0, 10),
    patients=st.integers(1, 10_000),
    crops=st.integers(1, 10_000),
    score=st.floats(0.01, 1),
    data_age_months=st.floats(0, 100),
)
PARTS = st.sampled_from(
    [Equal(), Size(), Size("crops"), Quality(), Recency(0.1), Product([Size(), Quality(), Recency(0.1, "months")])]
)


def report(hospital="A", **facts):
    return Report(**{"hospital": hospital, "round": 1, "patients": 1, "crops": 1, **facts})


def weights(part, *reports, round=1):
    return normalised({r.hospital: part.factor(r, round) for r in reports})


def test_size_is_n_over_the_sum():
    # 530 + 164 + 59 + 55 = 808, the training sizes of Fed-LIDC
    sizes = dict(zip("ABCD", (530, 164, 59, 55), strict=True))
    got = weights(Size(), *(report(name, patients=n) for name, n in sizes.items()))
    assert got == pytest.approx({"A": 530 / 808, "B": 164 / 808, "C": 59 / 808, "D": 55 / 808})


def test_size_counts_what_it_is_told_to():
    assert Size("crops").factor(report(patients=3, crops=40), 1) == 40
    assert Size("patients").factor(report(patients=3, crops=40), 1) == 3


def test_quality_is_the_score_over_the_sum():
    got = weights(Quality(), report("A", score=0.9), report("B", score=0.6))
    assert got == pytest.approx({"A": 0.6, "B": 0.4})


def test_quality_lifts_a_low_score_to_the_floor():
    assert Quality(floor=0.5).factor(report(score=0.2), 1) == 0.5


@pytest.mark.parametrize("score", [None, math.nan])
def test_quality_without_a_score_names_the_hospital_and_the_remedy(score):
    with pytest.raises(MissingFact, match=r"'A' has no score .*strategy\.weighting\.missing"):
        Quality().factor(report(score=score), 1)
    assert Quality(missing=0.5).factor(report(score=score), 1) == 0.5


def test_recency_decays_by_rounds_the_model_is_old():
    # round 5, started from round 3: age 2, e^(−0.5·2)
    assert Recency(0.5).factor(report(round=3), 5) == pytest.approx(math.exp(-1))
    assert Recency(0.5).factor(report(round=5), 5) == 1


def test_recency_decays_by_months_the_data_are_old():
    assert Recency(0.1, "months").factor(report(data_age_months=24.0), 1) == pytest.approx(math.exp(-2.4))


def test_recency_without_an_age_names_the_remedy():
    with pytest.raises(MissingFact, match="data_age_months"):
        Recency(unit="months").factor(report(), 1)


def test_a_product_multiplies_before_it_normalises():
    part = Product([Size(), Quality(), Recency(0.5)])
    got = weights(part, report("A", patients=10, score=0.8), report("B", patients=30, score=0.6, round=0))
    a, b = 10 * 0.8, 30 * 0.6 * math.exp(-0.5)
    assert got == pytest.approx({"A": a / (a + b), "B": b / (a + b)})


def test_only_quality_asks_for_a_score_also_inside_a_product():
    assert Product([Size(), Quality()]).needs_score
    assert not Product([Size(), Recency()]).needs_score
    assert not any(part.needs_score for part in (Equal(), Size(), Recency()))


@given(PARTS, st.lists(REPORTS, min_size=1, max_size=8, unique_by=lambda r: r.hospital))
def test_weights_sum_to_one_and_do_not_depend_on_order(part, reports):
    forward, backward = weights(part, *reports, round=11), weights(part, *reversed(reports), round=11)
    assert sum(forward.values()) == pytest.approx(1)
    assert forward == pytest.approx(backward)
    assert all(weight >= 0 for weight in forward.values())


@given(st.lists(REPORTS, min_size=2, max_size=8, unique_by=lambda r: r.hospital), st.integers(2, 50))
def test_size_weights_do_not_change_when_everybody_grows_alike(reports, times):
    grown = [report(r.hospital, patients=r.patients * times) for r in reports]
    assert weights(Size(), *reports) == pytest.approx(weights(Size(), *grown))


def test_all_zero_weights_name_the_hospitals():
    with pytest.raises(NoWeight, match="A, B"):
        weights(Size(), report("A", patients=0), report("B", patients=0))


@pytest.mark.parametrize(
    "make",
    [
        lambda: Size("scans"), lambda: Recency(-1), lambda: Recency(np.inf), lambda: Recency(1, "years"),
        lambda: Quality(floor=1.5), lambda: Quality(missing=-0.1), lambda: Product([]),
    ],
)  # fmt: skip
def test_settings_out_of_range_are_refused(make):
    with pytest.raises(PartError, match=r"got|none"):
        make()
