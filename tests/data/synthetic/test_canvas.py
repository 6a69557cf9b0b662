"""Voxels hold the share of a shape that lies in them, whatever their size."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.synthetic.canvas import Canvas, Grid, between
from data.synthetic.shapes import Ellipsoid, Tube, attitude


def _canvas(spacing_zyx_mm=(1.0, 1.0, 1.0), *, side_mm=24.0, hu=0.0) -> Canvas:
    shape = tuple(round(side_mm / step) for step in spacing_zyx_mm)
    origin = tuple(-step * (n - 1) / 2 for step, n in zip(spacing_zyx_mm[::-1], shape[::-1], strict=True))
    grid = Grid(shape, spacing_zyx_mm, origin)
    return Canvas(grid, np.full(shape, hu, np.float32))


def _filled_mm3(canvas: Canvas, hu: float) -> float:
    return float(canvas.hu_ZYX.sum(dtype=float) / hu * np.prod(canvas.grid.spacing_zyx_mm))


@settings(max_examples=25, deadline=None)
@given(
    radius=st.floats(1.6, 8.0),
    dz=st.sampled_from([1.0, 1.5, 2.5, 3.0]),
    centre=st.tuples(*[st.floats(-1.5, 1.5)] * 3),
)
def test_a_ball_fills_its_own_volume_on_any_grid(radius, dz, centre):
    canvas = _canvas((dz, 1.4, 1.4))
    canvas.add_fine(Ellipsoid(centre, (radius, radius, radius)), 1000.0)
    assert _filled_mm3(canvas, 1000.0) == pytest.approx(4 / 3 * np.pi * radius**3, rel=0.08)


def test_a_ball_is_painted_where_it_lies():
    canvas = _canvas((2.5, 1.4, 1.2))
    canvas.add_fine(Ellipsoid((2.0, -3.0, 4.0), (3.0, 3.0, 3.0)), 1.0)
    x, y, z = canvas.grid.axes
    middle = [float((canvas.hu_ZYX * axis).sum() / canvas.hu_ZYX.sum()) for axis in (x, y, z)]
    np.testing.assert_allclose(middle, (2.0, -3.0, 4.0), atol=0.1)


def test_a_tube_fills_its_own_volume():
    canvas = _canvas((2.0, 1.4, 1.4))
    canvas.add_fine(Tube((-6, -2, -3), (6, 2, 3), 2.0, 2.0), 1.0)
    length = np.sqrt(12**2 + 4**2 + 6**2)
    assert _filled_mm3(canvas, 1.0) == pytest.approx(np.pi * 4 * length + 4 / 3 * np.pi * 8, rel=0.05)


def test_findings_never_make_a_place_less_dense():
    canvas = _canvas(hu=50.0)
    canvas.add_fine(Ellipsoid((0, 0, 0), (5, 5, 5)), -500.0)
    np.testing.assert_array_equal(canvas.hu_ZYX, 50.0)


def test_shapes_outside_the_grid_change_nothing():
    canvas = _canvas()
    for shape in (Ellipsoid((100, 0, 0), (5, 5, 5)), Tube((0, 0, -90), (0, 0, -60), 3, 3)):
        canvas.paint(shape, 100.0)
        canvas.add_fine(shape, 100.0)
    assert not canvas.hu_ZYX.any()


@given(seed=st.integers(0, 1000))
def test_nothing_of_a_shape_lies_outside_its_bounds(seed):
    rng = np.random.default_rng(seed)
    knobs = np.array([[0.0, 0.6, 0.8, 0.2], [1.0, 0.0, 0.0, -0.1]])
    ball = Ellipsoid((1.0, 2.0, 3.0), tuple(rng.uniform(1, 5, 3)), attitude(rng), knobs)
    points = rng.uniform(-9, 13, (3, 4000)).astype(np.float32)
    inside = points[:, ball.distance(*points) < 0]
    low, high = ball.bounds()
    assert (inside.min(axis=1) - low > -1e-3).all()
    assert (inside.max(axis=1) - high < 1e-3).all()


def test_distances_are_exact_along_the_axes_of_an_ellipsoid():
    ball = Ellipsoid((0.0, 0.0, 0.0), (3.0, 3.0, 3.0))
    x = np.array([1.0, 3.0, 7.0], np.float32)
    zero = np.zeros_like(x)
    np.testing.assert_allclose(ball.distance(x, zero, zero), [-2.0, 0.0, 4.0], atol=1e-5)


def test_stretching_keeps_straight_lines_straight():
    line = np.arange(5, dtype=np.float32)
    np.testing.assert_allclose(between(9, line), np.arange(9) / 2)
    columns = np.repeat(line[:, None], 3, axis=1)
    np.testing.assert_allclose(between(9, columns, axis=0)[:, 1], np.arange(9) / 2)


def test_smooth_fields_are_what_they_are_where_computed_in_full():
    grid = _canvas((2.0, 1.0, 1.0), side_mm=32.0).grid
    ball = Ellipsoid((3.0, 0.0, 0.0), (9.0, 9.0, 9.0))
    exact = ball.distance(*grid.axes)
    near_its_surface = np.abs(exact) < 4
    assert np.abs(grid.smooth(ball.distance) - exact)[near_its_surface].max() < 0.15  # mm; voxels are 1 mm
