"""Hospitals against each other, in numbers alone: what is far, what is opposite, and what chance may do."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.config import build, compose
from app.rounds.agreement import agreements
from app.rounds.differences import Differences
from data.errors import BadSetting
from data.statistics import SiteStatistics
from data.statistics.shape import SHAPES
from data.statistics.site import COUNTS

RULES: Differences = build(compose()["comparison"]["differences"])

LIKE_NODULES = (0.2, 0.1, 0.13, 0.36)
"""What phantoms of four vendors measure on average."""


def site(numbers=None, separation=LIKE_NODULES, crops=(100, 100), histograms=None) -> SiteStatistics:
    counts = {**dict.fromkeys(COUNTS, 20), "seen_negatives": crops[0], "seen_positives": crops[1]}
    told = dict(zip(SHAPES, separation, strict=True)) if separation else {}
    measured = {"numbers": numbers or {}, "histograms": histograms or {}, "separation": told}
    return SiteStatistics(is_ct=True, counts=counts, vendors={}, told={}, **measured)


def swapped(vector):
    return tuple(-value for value in vector)


def stopping(sites) -> set[tuple[str, str]]:
    return {(remark.hospital, remark.quantity) for remark in RULES.remarks(sites) if remark.stops}


def test_a_hospital_alone_is_compared_with_nobody():
    assert RULES.remarks({"A": site({"tissue_hu": 900.0})}) == []


def test_a_number_is_compared_with_the_median_of_all():
    sites = {"A": site({"tissue_hu": 20.0}), "B": site({"tissue_hu": 400.0}), "C": site({"tissue_hu": -10.0})}
    (remark,) = [r for r in RULES.remarks(sites) if r.stops]
    assert remark.text.startswith("soft tissue is 400 HU, usual here is 20 HU: ")


def test_of_two_each_is_compared_with_the_other():
    assert {name for name, _ in stopping({"A": site({"lung_hu": -850.0}), "B": site({"lung_hu": -590.0})})} == {
        "A",
        "B",
    }


def test_a_number_that_only_one_hospital_can_tell_is_passed_over():
    assert RULES.remarks({"A": site({"tissue_hu": 900.0}), "B": site()}) == []


def test_swapped_labels_are_found_among_three_and_blamed_on_one():
    sites = {"A": site(), "B": site(), "C": site(separation=swapped(LIKE_NODULES))}
    assert stopping(sites) == {("C", "labels")}


def test_between_two_both_are_named():
    assert stopping({"A": site(), "C": site(separation=swapped(LIKE_NODULES))}) == {("A", "labels"), ("C", "labels")}


def test_few_crops_prove_nothing():
    assert stopping({"A": site(), "B": site(), "C": site(separation=swapped(LIKE_NODULES), crops=(6, 6))}) == set()


def test_where_the_others_labels_tell_nothing_apart_nothing_is_said():
    nothing = (0.01, -0.02, 0.0, 0.03)
    assert RULES.remarks({"A": site(separation=nothing), "B": site(separation=nothing), "C": site()}) == []


def test_labels_that_tell_nothing_where_the_others_do_are_a_warning():
    (remark,) = RULES.remarks({"A": site(), "B": site(), "C": site(separation=(0.0,) * 4, crops=(300, 300))})
    assert (remark.hospital, remark.quantity, remark.stops) == ("C", "labels", False)


def test_a_hospital_of_one_class_does_not_take_part_in_it():
    assert set(agreements({"A": site(), "B": site(), "C": site(separation=())})) == {"A", "B"}


def test_brightness_far_from_the_others_stops():
    dark, bright = (1.0, *(0.0,) * 15), (*(0.0,) * 15, 1.0)
    sites = {name: site(histograms={"negative": shares}) for name, shares in (("A", dark), ("B", dark), ("C", bright))}
    assert stopping(sites) == {("C", "negative_histogram")}


def noisy(vector, rng, crops):
    """A hospital's vector as a sample of it gives it: correlated by 0.7, with an AUC's own error."""
    error = np.sqrt((2 * crops + 1) / (12 * crops * crops))
    return tuple(
        np.array(vector) + error * (np.sqrt(0.3) * rng.standard_normal(4) + np.sqrt(0.7) * rng.standard_normal())
    )


@given(st.integers(0, 2**32 - 1), st.integers(20, 300))
@settings(max_examples=100)
def test_hospitals_that_mean_the_same_are_not_called_swapped(seed, crops):
    rng = np.random.default_rng(seed)
    sites = {name: site(separation=noisy(LIKE_NODULES, rng, crops), crops=(crops, crops)) for name in "ABC"}
    assert stopping(sites) == set()


def test_with_eighty_crops_of_either_class_swapped_labels_are_found():
    rng, found = np.random.default_rng(1), 0
    for _ in range(200):
        vectors = {"A": LIKE_NODULES, "B": LIKE_NODULES, "C": swapped(LIKE_NODULES)}
        sites = {name: site(separation=noisy(vector, rng, 80), crops=(80, 80)) for name, vector in vectors.items()}
        found += stopping(sites) == {("C", "labels")}
    assert found >= 190  # measured: 199


def test_a_tolerance_of_what_is_no_quantity_is_refused():
    with pytest.raises(BadSetting, match="'tisue_hu' is no quantity"):
        Differences(tolerances={"tisue_hu": 1.0}, histogram=1, opposite=-0.3, silent=0, evidence=4, margin=3)


@pytest.mark.parametrize(
    ("choice", "where"), [("standard", "coordinator"), ("at_hospital", "hospital"), ("off", "nowhere")]
)
def test_every_choice_builds_and_says_who_compares(choice, where):
    comparison = compose([f"comparison={choice}"])["comparison"]
    assert comparison["where"] == where
    build(comparison["limits"]), build(comparison["differences"]), build(comparison["sampling"])
