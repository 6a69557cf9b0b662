"""Vessels go everywhere, get thinner by Murray's law, and are painted as bright as their section."""

import numpy as np
import pytest

from data.synthetic.canvas import Canvas, Grid
from data.synthetic.shapes import Tube
from data.synthetic.threads import paint_branches
from data.synthetic.vessels import TWIG_MM, Branches, grow

HILA = np.array([[-30.0, 0.0, 0.0], [30.0, 0.0, 0.0]])


@pytest.fixture
def branches() -> Branches:
    places = np.random.default_rng(0).uniform(-60, 60, (300, 3))
    return grow(places, HILA, np.random.default_rng(1))


def test_every_place_is_reached_by_a_twig(branches):
    places = np.random.default_rng(0).uniform(-60, 60, (300, 3))
    ends = branches.end[branches.radius_mm == TWIG_MM]
    assert len(ends) == len(places)
    nearest = np.linalg.norm(places[:, None] - ends, axis=2).min(axis=1)
    assert np.quantile(nearest, 0.95) < 5  # a twig misses by a share of its length, which is some centimetres


def test_radii_obey_murrays_law_at_every_division(branches):
    # r³ = r₁³ + r₂³: each end of a branch is the start of exactly two others, or of none where it is a twig.
    for end, radius in zip(branches.end, branches.radius_mm, strict=True):
        children = branches.radius_mm[(branches.start == end).all(axis=1)]
        if radius > TWIG_MM:
            assert len(children) == 2
            assert (children**3).sum() == pytest.approx(radius**3)
        else:
            assert len(children) == 0


def test_the_same_generator_grows_the_same_vessels():
    places = np.random.default_rng(0).uniform(-60, 60, (50, 3))
    one, two = (grow(places, HILA, np.random.default_rng(5)) for _ in range(2))
    np.testing.assert_array_equal(one.end, two.end)


def test_no_lung_no_vessels():
    assert len(grow(np.zeros((0, 3)), HILA, np.random.default_rng(0))) == 0


def _canvas() -> Canvas:
    grid = Grid((20, 30, 30), (2.0, 1.4, 1.4), (-20.3, -20.3, -19.0))
    return Canvas(grid, np.zeros(grid.shape_zyx, np.float32))


@pytest.mark.parametrize("radius", [0.4, 0.8, 1.5, 3.0])
def test_a_vessel_is_as_much_tissue_as_its_section(radius):
    canvas = _canvas()
    one = Branches(np.array([[-12.0, -9.0, -11.0]]), np.array([[13.0, 10.0, 9.0]]), np.array([radius]))
    paint_branches(canvas, one, 1.0)
    length = np.linalg.norm(one.end - one.start)
    drawn = canvas.hu_ZYX.sum() * np.prod(canvas.grid.spacing_zyx_mm)
    assert drawn == pytest.approx(np.pi * radius**2 * length, rel=0.12)  # ends are round


def test_many_at_once_are_what_one_shape_after_another_would_be():
    fast, slow = _canvas(), _canvas()
    start, end = np.array([[-12.0, -9.0, -11.0]]), np.array([[13.0, 10.0, 9.0]])
    paint_branches(fast, Branches(start, end, np.array([2.0])), 100.0)
    drawn = np.sqrt(2.0**2 - slow.grid.voxel_mm**2 / 12)  # paint lets the edge's width add to the section
    slow.paint(Tube(tuple(start[0]), tuple(end[0]), drawn, drawn), 100.0)
    np.testing.assert_allclose(fast.hu_ZYX, slow.hu_ZYX, atol=0.5)
