"""What a score histogram shows of the scores, and how little of any one patient."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.metrics import released
from app.metrics.classification import BINS, auc, histogram

SD = 1.31
"""Of the noise that ε 3.2 wants at δ 1e-5."""


def hospital(rng, *, patients, crops=3, centre=0.0, apart=1.86):
    """Logits, labels and owners of a hospital whose scores lie around `centre`; AUC 0.906 as they come."""
    labels = (rng.random(patients * crops) < 0.5).astype(np.int64)
    logits = centre + apart * (labels - 0.5) + rng.standard_normal(len(labels))
    return logits, labels, [str(i // crops) for i in range(len(labels))]


def noised(counts, rng, sd=SD):
    return counts + rng.normal(0.0, sd, counts.shape)


def read(hospitals, rng, bins, *, is_even=False):
    """The pooled AUC as a server reads it: of each hospital (validation, test)."""
    total = np.zeros((2, BINS), np.int64)
    for validation, test in hospitals:
        first = noised(released.coarse(*validation, released.even(bins)), rng)
        where = released.even(bins) if is_even else released.by_share(first)
        total += released.fine(noised(released.coarse(*test, where), rng), where)
    return auc(total)


@settings(deadline=None, max_examples=60)
@given(
    crops=st.lists(st.tuples(st.floats(-40, 40), st.booleans()), min_size=1, max_size=12),
    bins=st.integers(1, 64),
    seed=st.integers(0, 2**32 - 1),
)
def test_a_patient_moves_the_histogram_by_at_most_one_wherever_the_bins_lie(crops, bins, seed):
    rng = np.random.default_rng(seed)
    others = hospital(rng, patients=5)
    logits = np.array([logit for logit, _ in crops])
    labels = np.array([label for _, label in crops], np.int64)
    where = released.by_share(rng.normal(0.0, 3.0, (2, bins)))
    without = released.coarse(*others, where)
    owners = [*others[2], *["another"] * len(crops)]
    whole = released.coarse(np.append(others[0], logits), np.append(others[1], labels), owners, where)
    # The sum of others is rounded too: 1e-9 of margin is more than that rounding.
    assert 1.0 - 1e-6 < np.linalg.norm(whole - without) <= 1.0


@settings(deadline=None)
@given(bins=st.integers(1, BINS), scale=st.sampled_from([1e-6, 1.0, 1e6]), seed=st.integers(0, 2**32 - 1))
def test_any_counts_make_bins_that_each_hold_a_fine_bin(bins, scale, seed):
    rng = np.random.default_rng(seed)
    # Most bins empty or negative, as noise makes them; a few hold nearly everything.
    counts = scale * rng.standard_normal((2, bins)) ** 3 * (rng.random((2, bins)) < 0.3)
    edges = released.by_share(counts)
    assert (edges[0], edges[-1], len(edges)) == (0, BINS, bins + 1)
    assert (np.diff(edges) >= 1).all()


def test_bins_lie_where_scores_do():
    logits, labels, patients = hospital(np.random.default_rng(3), patients=4000, centre=2.0)
    first = released.coarse(logits, labels, patients, released.even(32))
    where = released.by_share(first)
    shares = np.add.reduceat(histogram(logits, labels), where[:-1], axis=1).sum(axis=0) / len(logits)
    # 1/32 each, but for scores that are not spread evenly within one of the first bins.
    assert shares == pytest.approx(1 / 32, abs=0.02)


def test_counts_that_say_nothing_give_even_bins():
    assert (released.by_share(np.full((2, 16), -1.0)) == released.even(16)).all()


def test_more_bins_than_there_are_fine_ones_are_refused():
    with pytest.raises(ValueError, match="got 513; a number from 1 to 512"):
        released.even(BINS + 1)


def test_spread_counts_keep_their_sum_and_a_lone_hospital_its_auc():
    rng = np.random.default_rng(4)
    counts = np.abs(noised(np.full((2, 16), 9.0), rng))
    where = released.by_share(counts)
    fine = released.fine(counts, where)
    # Half a thousandth of rounding in each fine bin.
    assert np.add.reduceat(fine, where[:-1], axis=1) / 1000 == pytest.approx(counts, abs=0.5e-3 * BINS)
    negatives, positives = counts
    ties_count_half = positives @ (np.cumsum(negatives) - negatives / 2) / (positives.sum() * negatives.sum())
    assert auc(fine) == pytest.approx(ties_count_half, abs=1e-3)


def test_the_released_auc_is_near_the_true_one_and_nearer_than_with_even_bins():
    # Over 800 repetitions: too low by 0.003 with sd 0.016; 32 even bins: by 0.002 with sd 0.030.
    rng = np.random.default_rng(5)
    hospitals = [
        (hospital(rng, patients=80, centre=centre), hospital(rng, patients=120, centre=centre))
        for centre in (0.1, 0.0, -0.1)
    ]
    true = auc(sum(histogram(logits, labels) for _, (logits, labels, _) in hospitals))
    ours = np.array([read(hospitals, rng, 16) for _ in range(50)])
    even = np.array([read(hospitals, rng, 32, is_even=True) for _ in range(50)])
    assert abs(ours.mean() - true) < 0.008
    assert ours.std() < 0.022 < even.std()


def test_replicates_spread_as_the_noise_does():
    rng = np.random.default_rng(6)
    counts = np.full((2, 8), 25.0)
    moved = released.simulated(counts, SD, 4000, rng)
    assert moved.mean() == pytest.approx(25.0, abs=0.15)
    # Poisson spread of 25, and the noise.
    assert moved.std(axis=0) == pytest.approx(np.sqrt(25.0 + SD**2), rel=0.08)
