"""What crops measure, on shapes whose numbers are known."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.statistics.crops import histograms, measure, numbers, separation, told
from data.statistics.shape import SHAPES, shape_of

SIZE = 24


def cube(draw) -> np.ndarray:
    """A crop of 24³ voxels: `draw` says which of them, by millimetres from the middle, are 0.9; the rest is 0.1."""
    z, y, x = np.meshgrid(*[np.arange(SIZE) - SIZE // 2.0] * 3, indexing="ij")
    return np.where(draw(z, y, x), 0.9, 0.1).astype(np.float32)


BALL = cube(lambda z, y, x: z**2 + y**2 + x**2 <= 16)
THREAD = cube(lambda z, y, x: y**2 + x**2 <= 2)
NOTHING = cube(lambda z, y, x: z > 99)


def crop(x_ZYX, label, patient="p", *, is_ct=True):
    return measure(x_ZYX, patient=patient, label=label, voxel_mm=1.0, is_ct=is_ct)


def test_a_ball_is_round_and_bright_in_the_middle_and_a_thread_is_not_round():
    ball, thread, nothing = (shape_of(x, voxel_mm=1.0) for x in (BALL, THREAD, NOTHING))
    assert ball["round"] == pytest.approx(1.0, abs=1e-5)
    assert thread["round"] < 0.1
    assert nothing["round"] == 0.0
    assert ball["centre"] == pytest.approx(0.9)
    assert ball["blob"] > thread["blob"] > nothing["blob"] == pytest.approx(0.0, abs=1e-6)


def test_shapes_are_measured_in_millimetres():
    fine = np.repeat(np.repeat(np.repeat(BALL, 2, 0), 2, 1), 2, 2)
    coarse, same = shape_of(BALL, voxel_mm=1.0), shape_of(fine, voxel_mm=0.5)
    assert same["ball"] == pytest.approx(coarse["ball"], abs=0.05)


def test_a_tiny_crop_has_numbers_too():
    assert all(np.isfinite(v) for v in shape_of(np.full((2, 2, 2), 0.5, np.float32), voxel_mm=3.0).values())


def test_air_is_blank_in_a_ct_and_only_black_is_blank_in_a_cube():
    air = np.random.default_rng(0).uniform(0, 0.1, (SIZE,) * 3).astype(np.float32)
    assert crop(air, 0).is_blank
    assert not crop(air, 0, is_ct=False).is_blank
    assert crop(np.zeros_like(air), 0, is_ct=False).is_blank
    assert not crop(THREAD, 0).is_blank


def test_separation_is_half_where_every_positive_has_more_and_nothing_where_crops_are_few():
    crops = [crop(BALL, 1)] * 5 + [crop(THREAD, 0)] * 5
    assert separation(crops)["round"] == 0.5
    assert separation(crops)["centre"] == pytest.approx(0.5)
    assert separation(crops[:-1]) == {}


@given(st.lists(st.tuples(st.sampled_from([BALL, THREAD, NOTHING]).map(id), st.integers(0, 1)), max_size=30))
def test_swapping_labels_turns_the_separation_over(drawn):
    by_id = {id(x): x for x in (BALL, THREAD, NOTHING)}
    crops = [crop(by_id[which], label) for which, label in drawn]
    swapped = [crop(by_id[which], 1 - label) for which, label in drawn]
    one, other = separation(crops), separation(swapped)
    assert one.keys() == other.keys()
    assert all(one[name] == pytest.approx(-other[name]) for name in one)


def test_histograms_are_shares_of_either_class():
    made = histograms([crop(BALL, 1), crop(NOTHING, 1)])
    assert set(made) == {"positive"}
    assert sum(made["positive"]) == pytest.approx(1.0)
    assert made["positive"][14] == pytest.approx((BALL > 0.5).mean() / 2)  # 0.9 · 16 = 14.4


def test_patients_are_counted_not_named():
    crops = [crop(BALL, 1, "Anna"), crop(BALL, 1, "Anna"), crop(BALL, 0, "Ben")]
    assert told(crops) == {"crop": 2, "positive": 1, "negative": 1}
    assert "Anna" not in repr((numbers(crops), histograms(crops), separation(crops), told(crops)))


def test_no_crop_has_no_numbers():
    assert (numbers([]), histograms([]), separation([]), set(SHAPES) & set(told([]))) == ({}, {}, {}, set())
