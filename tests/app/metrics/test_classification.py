"""Counts that add up say what all crops together would have said."""

import math
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import mannwhitneyu

from app.metrics.classification import (
    BINS,
    EDGES,
    Operating,
    at_threshold,
    auc,
    bootstrap,
    histogram,
    interval,
    operating_threshold,
)


def draw(count=400, *, shift=1.5, spread=1.0, centre=0.0, seed=0):
    rng = np.random.default_rng(seed)
    labels = (rng.random(count) < 0.3).astype(np.int64)
    return centre + spread * (rng.standard_normal(count) + shift * labels), labels


def exact_auc(scores, labels):
    positives, negatives = scores[labels == 1], scores[labels == 0]
    return mannwhitneyu(positives, negatives).statistic / (len(positives) * len(negatives))


def counts(negatives, positives):
    """Counts from {bin: count} of each class."""
    made = np.zeros((2, BINS), np.int64)
    for row, given_counts in enumerate((negatives, positives)):
        for at, count in given_counts.items():
            made[row, at] = count
    return made


@pytest.mark.parametrize("spread", [0.2, 1.0, 3.0, 6.0])
@pytest.mark.parametrize("seed", range(5))
def test_the_auc_of_the_counts_is_mann_whitneys_of_the_scores(spread, seed):
    scores, labels = draw(2000, spread=spread, seed=seed)
    assert auc(histogram(scores, labels)) == pytest.approx(exact_auc(scores, labels), abs=1e-3)


def test_scores_of_a_young_model_that_lie_close_together_are_still_told_apart():
    scores, labels = draw(2000, spread=0.05)
    assert auc(histogram(scores, labels)) == pytest.approx(exact_auc(scores, labels), abs=2e-3)


def test_auc_by_hand():
    # Negatives in bins 10, 10, 20, positives in 15, 20, 30. 15 beats two negatives, 20 beats two and ties with one,
    # 30 beats three: 2 + 2.5 + 3 of 9 pairs.
    assert auc(counts({10: 2, 20: 1}, {15: 1, 20: 1, 30: 1})) == 7.5 / 9
    assert auc(counts({1: 5}, {2: 3})) == 1.0
    assert auc(counts({2: 5}, {1: 3})) == 0.0
    assert auc(counts({7: 5}, {7: 3})) == 0.5


@pytest.mark.parametrize("empty", [counts({}, {3: 1}), counts({3: 1}, {}), counts({}, {})])
def test_without_both_classes_there_is_no_auc(empty):
    assert auc(empty) is None


def test_counts_of_millions_of_crops_do_not_overflow():
    many = counts({100: 4_000_000}, {100: 2_000_000, 101: 2_000_000}).astype(np.uint32)
    assert auc(many) == 0.75


@given(seed=st.integers(0, 1000), cut=st.integers(0, 60))
@settings(max_examples=30, deadline=None)
def test_hospitals_add_up_to_the_pool_however_crops_are_shared_out(seed, cut):
    scores, labels = draw(60, seed=seed)
    parts = histogram(scores[:cut], labels[:cut]) + histogram(scores[cut:], labels[cut:])
    assert np.array_equal(parts, histogram(scores, labels))


def test_every_crop_is_counted_once_in_its_class():
    scores, labels = draw()
    made = histogram(np.append(scores, [-np.inf, np.inf, 1e9]), np.append(labels, [0, 1, 1]))
    assert made.shape == (2, BINS)
    assert made.sum(axis=1).tolist() == [np.sum(labels == 0) + 1, np.sum(labels == 1) + 2]
    assert made[0, 0] >= 1
    assert made[1, -1] == 2


def test_bins_are_symmetric_and_one_edge_is_an_even_chance():
    np.testing.assert_allclose(EDGES, -EDGES[::-1], atol=1e-12)
    assert EDGES[BINS // 2 - 1] == 0.0
    assert np.all(np.diff(EDGES) > 0)
    assert np.diff(EDGES).min() == pytest.approx(0.0094, abs=1e-4)


@pytest.mark.parametrize(
    ("scores", "labels", "said"),
    [
        ([0.1, float("nan")], [0, 1], "scores: 1 of 2 are NaN"),
        ([0.1, 0.2], [0, 2], r"labels: got \[0, 2\]; write 0 and 1"),
        ([0.1, 0.2], [0], r"scores and labels: got \(2,\) and \(1,\)"),
    ],
)
def test_what_cannot_be_counted_is_refused(scores, labels, said):
    with pytest.raises(ValueError, match=said):
        histogram(np.array(scores), np.array(labels))


# --- bootstrap ---------------------------------------------------------------------------------------------------


def test_a_replicate_draws_as_many_patients_and_each_with_all_crops():
    # Patient p has one negative in bin of score -p-1 and two positives above: counts come in threes, p by p.
    patients = [f"p{p}" for p in range(5) for _ in range(3)]
    scores = np.array([s for p in range(5) for s in (-p - 1.0, p + 1.0, p + 1.0)])
    labels = np.array([0, 1, 1] * 5)
    made = bootstrap(scores, labels, patients, replicates=50, seed=0)
    assert made.shape == (50, 2, BINS)
    assert np.all(made.sum(axis=2) == [5, 10])
    drawn = np.stack([made[:, 0, np.searchsorted(EDGES, -p - 1.0, side="right")] for p in range(5)])
    with_them = np.stack([made[:, 1, np.searchsorted(EDGES, p + 1.0, side="right")] for p in range(5)])
    assert np.array_equal(with_them, 2 * drawn)
    assert drawn.max() > 1
    assert drawn.min() == 0


def test_replicates_follow_from_the_seed():
    scores, labels = draw(50)
    patients = [f"p{i}" for i in range(50)]

    def once(seed):
        return bootstrap(scores, labels, patients, 10, seed)

    assert np.array_equal(once(1), once(1))
    assert np.array_equal(once(1), once(np.random.default_rng(1)))
    assert not np.array_equal(once(1), once(2))


def test_the_interval_has_the_width_that_theory_gives():
    # Hanley, McNeil 1982: se² = (A(1-A) + (P-1)(Q1-A²) + (N-1)(Q2-A²)) / PN, Q1 = A/(2-A), Q2 = 2A²/(1+A).
    scores, labels = draw(600, shift=1.5, seed=4)
    replicates = bootstrap(scores, labels, [str(i) for i in range(600)], 1000, 0)
    low, high = interval([auc(r) for r in replicates])
    a, p, n = exact_auc(scores, labels), labels.sum(), (1 - labels).sum()
    q1, q2 = a / (2 - a), 2 * a * a / (1 + a)
    error = math.sqrt((a * (1 - a) + (p - 1) * (q1 - a * a) + (n - 1) * (q2 - a * a)) / (p * n))
    assert (high - low) / 2 == pytest.approx(1.96 * error, rel=0.15)
    assert low < a < high


def test_crops_of_one_patient_that_say_the_same_widen_the_interval():
    scores, labels = draw(60)
    patients = [str(i) for i in range(60)]
    fourfold = np.repeat(scores, 4), np.repeat(labels, 4), np.repeat(patients, 4)

    def width(*sample):
        low, high = interval([auc(r) for r in bootstrap(*sample, 500, 0)])
        return high - low

    by_patient = width(*fourfold)
    assert by_patient == pytest.approx(width(scores, labels, patients), rel=0.02)
    # Four times the crops, were they independent, would halve it.
    assert by_patient > 1.6 * width(fourfold[0], fourfold[1], [str(i) for i in range(240)])


def test_pooled_replicates_give_the_pooled_interval():
    scores, labels = draw(400, seed=2)
    patients = [str(i) for i in range(400)]
    whole = interval([auc(r) for r in bootstrap(scores, labels, patients, 1000, 0)])
    halves = [bootstrap(scores[part], labels[part], patients[part], 1000, seed)
              for seed, part in enumerate((slice(0, 200), slice(200, 400)))]  # fmt: skip
    np.testing.assert_allclose(interval([auc(r) for r in halves[0] + halves[1]]), whole, atol=0.01)


def test_five_hundred_replicates_of_three_hundred_crops_take_no_time():
    scores, labels = draw(300)
    started = time.process_time()
    bootstrap(scores, labels, [str(i // 2) for i in range(300)], 500, 0)
    assert time.process_time() - started < 1.0  # 0.01 s; a loop over replicates and crops takes 20


def test_a_hospital_without_crops_adds_nothing():
    empty = bootstrap(np.empty(0), np.empty(0, np.int64), [], 10, 0)
    assert empty.shape == (10, 2, BINS)
    assert not empty.any()


def test_interval_by_hand():
    # 101 values 0.00 … 1.00: their 2.5 % and 97.5 % quantiles.
    assert interval([i / 100 for i in range(101)]) == pytest.approx((0.025, 0.975))
    assert interval([i / 100 for i in range(101)], level=0.5) == pytest.approx((0.25, 0.75))


def test_an_interval_needs_most_replicates_to_have_an_auc():
    assert interval([0.5, None, 0.5]) == (0.5, 0.5)
    assert interval([0.5, None, None]) == (None, None)
    assert interval([]) == (None, None)


# --- thresholds --------------------------------------------------------------------------------------------------


def test_the_threshold_divides_two_apart_classes_in_the_middle_of_the_gap():
    # Negatives up to bin 200, positives from 300: thresholds below bins 201 … 300 all divide; the middle one is 250.
    made = counts({100: 5, 200: 5}, {300: 5, 400: 5})
    threshold = operating_threshold(made)
    assert threshold == pytest.approx(1 / (1 + math.exp(-EDGES[249])))
    assert at_threshold(made, threshold) == Operating(1.0, 1.0, 1.0)


def test_the_threshold_maximises_youdens_index():
    scores, labels = draw(500, seed=3)
    made = histogram(scores, labels)
    best = at_threshold(made, operating_threshold(made))
    indices = []
    for edge in EDGES:
        called = scores >= edge
        indices.append(called[labels == 1].mean() + (~called)[labels == 0].mean() - 1)
    assert best.sensitivity + best.specificity - 1 == pytest.approx(max(indices))


def test_classes_count_alike_however_rare_one_is():
    # Above bin 10: sensitivity 1, specificity 0.9. Above bin 20: 0.2 and 1, and the better accuracy.
    made = counts({10: 900, 20: 100}, {20: 8, 30: 2})
    assert at_threshold(made, operating_threshold(made)) == Operating(910 / 1010, 1.0, 0.9)
    assert at_threshold(made, 1 / (1 + math.exp(-EDGES[20]))).accuracy == 1002 / 1010


@pytest.mark.parametrize("one_class", [counts({3: 1}, {}), counts({}, {3: 1}), counts({}, {})])
def test_without_both_classes_the_threshold_is_an_even_chance(one_class):
    assert operating_threshold(one_class) == 0.5


def test_a_useless_score_still_gets_a_threshold_between_nought_and_one():
    upside_down = counts({300: 5}, {200: 5})
    assert 0.0 <= operating_threshold(upside_down) <= 1.0
    assert at_threshold(upside_down, 0.5) == Operating(0.0, 0.0, 0.0)


def test_figures_at_a_threshold_by_hand():
    # 0.5 is the edge below bin 256. Negatives: 3 below, 1 above. Positives: 1 below, 3 above … 5 of them.
    made = counts({255: 3, 256: 1}, {255: 1, 256: 2, 300: 2})
    assert at_threshold(made, 0.5) == Operating(accuracy=7 / 9, sensitivity=4 / 5, specificity=3 / 4)


def test_a_score_on_an_edge_is_called_positive_from_that_threshold():
    assert at_threshold(histogram(np.array([0.0]), np.array([1])), 0.5).sensitivity == 1.0


@pytest.mark.parametrize(("threshold", "sensitivity", "specificity"), [(0.0, 1.0, 0.0), (1.0, 0.0, 1.0)])
def test_the_ends_call_all_or_none(threshold, sensitivity, specificity):
    found = at_threshold(counts({0: 1, 511: 1}, {0: 1, 511: 1}), threshold)
    assert (found.sensitivity, found.specificity) == (sensitivity, specificity)


def test_shares_of_a_missing_class_are_missing():
    assert at_threshold(counts({100: 2}, {}), 0.5) == Operating(1.0, None, 1.0)
    assert at_threshold(counts({}, {}), 0.5) == Operating(None, None, None)


@given(at=st.integers(0, BINS))
def test_a_threshold_written_as_a_probability_comes_back_as_the_same_edge(at):
    # Negatives fill every bin below `at`, positives the rest: only that edge divides them without error.
    made = counts(dict.fromkeys(range(at), 1), dict.fromkeys(range(at, BINS), 1))
    if 0 < at < BINS:
        assert at_threshold(made, operating_threshold(made)) == Operating(1.0, 1.0, 1.0)
    else:
        assert operating_threshold(made) == 0.5
