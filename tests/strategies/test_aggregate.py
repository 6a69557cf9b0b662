import gc
import tracemalloc
import weakref

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.stats import trim_mean

from strategies.aggregate.geometric_median import GeometricMedian
from strategies.aggregate.krum import Krum
from strategies.aggregate.mean import Mean
from strategies.aggregate.robust import Median, TrimmedMean
from strategies.aggregate.sorting import network, sort_rows
from strategies.errors import BadFactor, Misstated, NoWeight, PartError

RULES = [Mean(), Median(), TrimmedMean(0.3), Krum(0), Krum(1, 2), GeometricMedian()]
IDS = ["mean", "median", "trimmed", "krum", "multikrum", "geometric"]
each_rule = pytest.mark.parametrize("rule", RULES, ids=IDS)

VALUES = st.floats(-100, 100, width=32)


@st.composite
def updates(draw, least=5, most=9):
    shape = draw(hnp.array_shapes(max_dims=2, max_side=4))
    number = draw(st.integers(least, most))
    return [draw(hnp.arrays(np.float32, shape, elements=VALUES)) for _ in range(number)]


def combine(rule, tensors, factors=None, names=None):
    fold = rule.begin({"w": tensors[0]})
    names = names or [f"{i:02d}" for i in range(len(tensors))]
    for name, tensor, factor in zip(names, tensors, factors or [1.0] * len(tensors), strict=True):
        fold.add(name, {"w": tensor}, factor)
    return fold.combine()


def rows(*values):
    return [np.float32([v]) if np.isscalar(v) else np.float32(v) for v in values]


# --- what every rule keeps ---


@each_rule
@given(tensors=updates())
@settings(max_examples=25, deadline=None)
def test_weights_sum_to_one_and_the_dtype_and_shape_stay(rule, tensors):
    combined = combine(rule, tensors)
    assert sum(combined.weights.values()) == pytest.approx(1)
    assert (combined.delta["w"].dtype, combined.delta["w"].shape) == (tensors[0].dtype, tensors[0].shape)


@each_rule
@given(tensors=updates(), data=st.data())
@settings(max_examples=25, deadline=None)
def test_the_order_in_which_updates_come_does_not_matter(rule, tensors, data):
    names = [f"{i:02d}" for i in range(len(tensors))]
    order = data.draw(st.permutations(range(len(tensors))))
    straight = combine(rule, tensors, names=names)
    shuffled = combine(rule, [tensors[i] for i in order], names=[names[i] for i in order])
    np.testing.assert_allclose(shuffled.delta["w"], straight.delta["w"], rtol=1e-4, atol=1e-3)


@each_rule
@given(tensor=hnp.arrays(np.float32, (3,), elements=VALUES))
@settings(max_examples=25, deadline=None)
def test_hospitals_that_agree_get_what_they_agree_on(rule, tensor):
    np.testing.assert_allclose(combine(rule, [tensor] * 5).delta["w"], tensor, rtol=1e-5, atol=1e-6)


@each_rule
@given(tensors=updates(), scale=st.sampled_from([-4.0, -0.5, 0.25, 2.0]))
@settings(max_examples=25, deadline=None)
def test_scaling_all_updates_scales_the_result(rule, tensors, scale):
    once = combine(rule, tensors).delta["w"]
    scaled = combine(rule, [np.float32(scale) * t for t in tensors]).delta["w"]
    np.testing.assert_allclose(scaled, np.float32(scale) * once, rtol=1e-3, atol=2e-2)


@each_rule
@given(tensors=updates())
@settings(max_examples=25, deadline=None)
def test_the_result_lies_between_the_extremes_of_each_coordinate(rule, tensors):
    got = combine(rule, tensors).delta["w"]
    stacked = np.stack(tensors)
    assert (got >= stacked.min(axis=0) - 1e-3).all()
    assert (got <= stacked.max(axis=0) + 1e-3).all()


@each_rule
def test_two_folds_of_one_round_merge_into_what_one_would_have_given(rule):
    tensors = rows([1, 2], [2, 3], [3, 5], [4, 9], [-5, 0])
    first, second = rule.begin({"w": tensors[0]}), rule.begin({"w": tensors[0]})
    for i, tensor in enumerate(tensors):
        (first if i % 2 else second).add(f"{i:02d}", {"w": tensor}, 1.0)
    first.merge(second)
    merged = first.combine()
    straight = combine(rule, tensors)
    np.testing.assert_allclose(merged.delta["w"], straight.delta["w"], rtol=1e-6)
    assert merged.weights == pytest.approx(straight.weights)


@each_rule
def test_no_update_is_an_error_and_no_result(rule):
    with pytest.raises(NoWeight):
        rule.begin({"w": np.zeros(2, np.float32)}).combine()


@each_rule
def test_updates_handed_in_stay_as_they_are(rule):
    tensors = rows([1, 2], [2, 3], [3, 5], [4, 9], [-5, 0])
    for tensor in tensors:
        tensor.flags.writeable = False
    combine(rule, tensors)


@each_rule
@pytest.mark.parametrize("shape", [(), (0,), (1,), (3, 0, 2)])
def test_scalars_and_empty_tensors_pass(rule, shape):
    tensors = [np.full(shape, value, np.float32) for value in (1, 2, 3, 4, 5)]
    assert combine(rule, tensors).delta["w"].shape == shape


@each_rule
def test_tensors_longer_than_a_block_are_whole(rule, monkeypatch):
    monkeypatch.setattr("strategies.aggregate.kept.BLOCK_BYTES", 64)
    monkeypatch.setattr("strategies.aggregate.kept.SHORTEST_BLOCK", 7)
    rng = np.random.default_rng(0)
    tensors = [rng.standard_normal(100).astype(np.float32) for _ in range(5)]
    short = combine(rule, tensors).delta["w"]
    monkeypatch.undo()
    np.testing.assert_allclose(short, combine(rule, tensors).delta["w"], rtol=1e-4, atol=1e-6)


# --- the mean ---


def test_the_mean_weighs_by_factors():
    # (1·2 + 3·6) / 4 = 5
    combined = combine(Mean(), rows(2, 6), factors=[1, 3])
    np.testing.assert_allclose(combined.delta["w"], [5])
    assert combined.weights == {"00": 0.25, "01": 0.75}


def test_an_update_of_zeros_takes_weight_without_tensors():
    fold = Mean().begin({"w": np.zeros(1, np.float32)})
    fold.add("A", {"w": np.float32([4])}, 1.0)
    fold.add("B", {}, 3.0)
    np.testing.assert_allclose(fold.combine().delta["w"], [1])


@pytest.mark.parametrize("first", [{}, {"w": np.float32([4])}])
def test_what_lay_in_a_sums_memory_before_its_first_update_is_never_read(first):
    sums = [Mean().begin({"w": np.zeros(1, np.float32)}) for _ in range(4)]
    for one in sums:
        one.total["w"].fill(np.nan)
    nothing_yet, refused, used, more = sums
    with pytest.raises(Misstated):
        refused.add("X", {"w": np.float32([2])}, 1.0, norm=9.0)
    used.add("A", first, 1.0)
    used.merge(refused)
    nothing_yet.merge(used)
    more.add("B", {"w": np.float32([8])}, 3.0)
    nothing_yet.merge(more)
    combined = nothing_yet.combine()
    np.testing.assert_allclose(combined.delta["w"], [(first.get("w", [0])[0] + 24) / 4])
    assert combined.weights == {"A": 0.25, "B": 0.75}


def test_the_mean_drops_each_update_once_it_is_added():
    fold = Mean().begin({"w": np.zeros(1000, np.float32)})
    tensor = np.ones(1000, np.float32)
    gone = weakref.ref(tensor)
    fold.add("A", {"w": tensor}, 1.0)
    del tensor
    gc.collect()
    assert gone() is None


@pytest.mark.parametrize("hospitals", [2, 20])
def test_the_means_memory_does_not_grow_with_the_number_of_hospitals(hospitals):
    model = 4 * 300_000
    tensor = np.ones(300_000, np.float32)
    tracemalloc.start()
    fold = Mean().begin({"w": tensor})
    for i in range(hospitals):
        fold.add(str(i), {"w": tensor}, 1.0)
    fold.combine()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1.2 * model


def test_half_precision_is_summed_in_single():
    # 3000 × 1 in float16 would stop growing at 2048
    tensors = [np.float16([1])] * 3000
    np.testing.assert_allclose(combine(Mean(), tensors).delta["w"], [1], rtol=1e-3)


# --- rules by coordinate ---


@given(updates(least=1, most=12))
@settings(deadline=None)
def test_the_median_is_numpys(tensors):
    np.testing.assert_allclose(combine(Median(), tensors).delta["w"], np.median(np.stack(tensors), axis=0), rtol=1e-6)


@given(updates(least=1, most=12), st.floats(0.01, 0.49))
@settings(deadline=None)
def test_the_trimmed_mean_is_scipys(tensors, fraction):
    expected = trim_mean(np.stack(tensors).astype(np.float64), fraction, axis=0)
    np.testing.assert_allclose(combine(TrimmedMean(fraction), tensors).delta["w"], expected, rtol=1e-4, atol=1e-4)


def test_the_trimmed_mean_by_hand():
    # of 1, 2, 3, 4, 100 one is cut at each end: (2 + 3 + 4) / 3
    np.testing.assert_allclose(combine(TrimmedMean(0.2), rows(1, 2, 3, 4, 100)).delta["w"], [3])


def test_a_minority_cannot_move_the_median_out_of_the_others():
    honest, liars = rows(1.0, 1.1, 0.9, 1.2), rows(1e6, 1e6, -1e9)
    assert 0.9 <= combine(Median(), honest + liars).delta["w"][0] <= 1.2


@given(st.integers(1, 40), st.data())
@settings(deadline=None)
def test_a_network_puts_the_wanted_rows_where_a_full_sort_would(count, data):
    first = data.draw(st.integers(0, count - 1))
    stop = data.draw(st.integers(first + 1, count))
    block = np.random.default_rng(count).permuted(np.tile(np.arange(count, dtype=np.float32), (8, 1)), axis=1).T
    lines = [row.copy() for row in block]
    sort_rows(lines, network(count, first, stop), np.empty(8, np.float32))
    for row in range(first, stop):
        np.testing.assert_array_equal(lines[row], row)


def test_a_network_leaves_out_what_is_not_asked_for():
    assert len(network(20, 9, 11)) < len(network(20, 0, 20))


# --- rules by distance ---


def test_krum_by_hand():
    # n 5, f 1: sum of squared distances to the 2 nearest others.
    # 0: 1+3.61   1: 0.81+1=1.81   1.9: 0.81+1.21=2.02   3: 1.21+4   50: far.
    combined = combine(Krum(1), rows(0, 1, 1.9, 3, 50))
    np.testing.assert_allclose(combined.delta["w"], [1])
    assert combined.weights == {"00": 0, "01": 1, "02": 0, "03": 0, "04": 0}


def test_multi_krum_averages_the_chosen_by_their_factors():
    # the two lowest are 1 and 2, with factors 1 and 3: (1 + 3·2) / 4
    combined = combine(Krum(1, chosen=2), rows(0, 1, 2, 3, 50), factors=[1, 1, 3, 1, 1])
    np.testing.assert_allclose(combined.delta["w"], [1.75])


@pytest.mark.parametrize(("factors", "expected"), [([1, 0, 0, 1, 1], 1.5), ([1, 0, 3, 1, 1], 2), ([0] * 5, 1.5)])
def test_the_chosen_count_the_same_where_none_of_them_has_weight(factors, expected):
    # the two lowest are 1 and 2: what the others weigh does not matter to them
    np.testing.assert_allclose(combine(Krum(1, 2), rows(0, 1, 2, 3, 50), factors=factors).delta["w"], [expected])


def test_krum_keeps_near_updates_apart_although_they_are_long():
    # about 1000 long, 0.01 apart: squared distances are 1e-10 of the squared norms
    base = np.full(4, 1000, np.float32)
    tensors = [base + np.float32(d) for d in (0.0, 0.01, 0.02, 0.5, 0.9)]
    assert combine(Krum(1), tensors).weights["01"] == 1


@pytest.mark.parametrize(
    ("rule", "least"),
    [
        (Krum(1), 5), (Krum(2), 7), (Krum(0, 6), 6), (Krum(1, 4), 5), (Krum(1, 6), 7), (Mean(), 1), (Median(), 3),
        (TrimmedMean(0.34), 3), (TrimmedMean(0.2), 5), (TrimmedMean(0.19), 6), (TrimmedMean(0.49), 3),
    ],
)  # fmt: skip
def test_a_rule_says_how_many_updates_it_needs(rule, least):
    assert rule.least == least


@given(st.floats(0.001, 0.499))
def test_of_the_fewest_updates_a_trimmed_mean_withstands_one_and_of_fewer_none(fraction):
    rule = TrimmedMean(fraction)
    assert (rule.cut(rule.least), rule.cut(rule.least - 1)) == (1, 0)
    assert combine(rule, rows(*[0.0] * (rule.least - 1), 1e9)).delta["w"] == 0


@each_rule
@pytest.mark.parametrize("factor", [np.nan, np.inf, -1.0])
def test_a_factor_that_is_no_weight_is_refused_and_leaves_the_others(rule, factor):
    fold = rule.begin({"w": np.zeros(1, np.float32)})
    for name, value in zip("ABCDE", (1, 2, 3, 4, 5), strict=True):
        fold.add(name, {"w": np.float32([value])}, 1.0)
    with pytest.raises(BadFactor, match="'X'"):
        fold.add("X", {"w": np.float32([9])}, factor)
    assert set(fold.combine().weights) == set("ABCDE")


def test_the_geometric_median_of_a_right_angle_is_its_fermat_point():
    # for (0,0), (1,0), (0,1) by symmetry x = y = t with 2(t−1)/‖(1−t,t)‖ + … = 0: t = (3 − √3)/6
    got = combine(GeometricMedian(), rows([0, 0], [1, 0], [0, 1])).delta["w"]
    np.testing.assert_allclose(got, (3 - 3**0.5) / 6, atol=1e-4)


def test_the_geometric_median_follows_the_weights():
    # on a line it is the weighted median
    got = combine(GeometricMedian(), rows(0, 1, 10), factors=[1, 1, 3]).delta["w"]
    np.testing.assert_allclose(got, [10], atol=1e-2)


def crowd(honest, liars, far, dtype=np.float64):
    """Honest updates within r of a point, liars `far` times as long on the other side. Returns tensors, point, r."""
    rng = np.random.default_rng(2)
    point = rng.standard_normal(40)
    others = [point + 0.5 * rng.standard_normal(40) for _ in range(honest)]
    r = max(np.linalg.norm(other - point) for other in others)
    turned = [-far * np.linalg.norm(point) * (point / np.linalg.norm(point)) for _ in range(liars)]
    return [tensor.astype(dtype) for tensor in [*turned, *others]], point, r


@pytest.mark.parametrize(("honest", "liars"), [(7, 3), (6, 4), (51, 49)])
@pytest.mark.parametrize(
    ("far", "dtype"),
    [(far, np.float64) for far in (1e2, 1e6, 1e7, 1e8, 1e10, 1e30)] + [(far, np.float32) for far in (1e5, 1e10, 1e16)],
)
def test_the_geometric_median_is_moved_no_further_the_further_liars_lie(honest, liars, far, dtype):
    tensors, point, r = crowd(honest, liars, far, dtype)
    got = combine(GeometricMedian(), tensors).delta["w"]
    share = liars / (honest + liars)
    assert np.linalg.norm(got - point) < 1.01 * r * 2 * (1 - share) / (1 - 2 * share)
    # Directions alone count: from a hundred times the distance on nothing changes but for the angle.
    near = combine(GeometricMedian(), crowd(honest, liars, 1e2)[0]).delta["w"]
    if (honest, liars) != (51, 49):  # there a hundred iterations are not enough for the last digits
        np.testing.assert_allclose(got, near, atol=0.05 * r)


@given(data=st.data(), far=st.floats(0, 12), share=st.floats(0.02, 0.45))
@settings(max_examples=50, deadline=None)
def test_liars_of_less_than_half_the_weight_are_withstood_whatever_their_number_and_place(data, far, share):
    honest = data.draw(st.integers(1, 5))
    liars = [10**far * data.draw(hnp.arrays(np.float64, 3, elements=st.floats(-1, 1))) for _ in range(7)]
    others = [data.draw(hnp.arrays(np.float64, 3, elements=st.floats(-1, 1))) + 2 for _ in range(honest)]
    factors = [share / 7] * 7 + [(1 - share) / honest] * honest
    got = combine(GeometricMedian(), [*liars, *others], factors=factors).delta["w"]
    assert np.linalg.norm(got - 2) <= 1.01 * 3**0.5 * 2 * (1 - share) / (1 - 2 * share)


@pytest.mark.parametrize("far", [1e4, 1e10, 1e17])
def test_krum_chooses_the_same_however_far_liars_lie(far):
    near, away = (combine(Krum(2), crowd(7, 2, distance, np.float32)[0]).weights for distance in (1e2, far))
    assert away == near
    assert away["00"] == away["01"] == 0  # the liars


@given(updates(least=3, most=8))
@settings(max_examples=50, deadline=None)
def test_nothing_near_the_geometric_median_is_better(tensors):
    def cost(z):
        return sum(np.linalg.norm((z - t).astype(np.float64)) for t in tensors)

    got = combine(GeometricMedian(), tensors).delta["w"]
    rng = np.random.default_rng(0)
    spread = np.ptp(np.stack(tensors)) + 1e-3
    rounding = cost(got + 4 * np.spacing(np.max(np.abs(tensors)))) - cost(got)  # the median itself is float32
    for _ in range(20):
        other = got + 0.05 * spread * rng.standard_normal(got.shape).astype(np.float32)
        assert cost(got) <= cost(other) + 1e-3 * spread + rounding


@pytest.mark.parametrize(
    "rule", [Median(), TrimmedMean(0.3), Krum(3), GeometricMedian()], ids=lambda r: type(r).__name__
)
def test_three_of_ten_reversed_and_tenfold_updates_do_not_turn_the_result(rule):
    rng = np.random.default_rng(1)
    honest = [np.ones(50, np.float32) + 0.1 * rng.standard_normal(50).astype(np.float32) for _ in range(10)]
    attacked = [-10 * t if i < 3 else t for i, t in enumerate(honest)]
    assert combine(Mean(), attacked).delta["w"].mean() < -2
    assert combine(rule, attacked).delta["w"].mean() == pytest.approx(1, abs=0.15)


@pytest.mark.parametrize(
    "make",
    [
        lambda: TrimmedMean(0.5),
        lambda: TrimmedMean(-0.1),
        lambda: TrimmedMean(0),
        lambda: Krum(-1),
        lambda: Krum(1, 0),
        lambda: GeometricMedian(0),
    ],
)
def test_settings_out_of_range_are_refused(make):
    with pytest.raises(PartError, match="got"):
        make()
