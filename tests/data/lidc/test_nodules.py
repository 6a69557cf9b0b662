"""Several readers' outlines become nodules: place, diameter and agreement, reckoned by hand."""

import math
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.errors import BadReading
from data.lidc import nodules_of, read_reading
from data.lidc.nodules import _pixels_inside
from tests.data.lidc.xml import message, nodule, ring

THICKNESS_MM = 2.0


@dataclass(frozen=True)
class At:
    position_xyz_mm: tuple
    spacing_yx_mm: tuple = (0.5, 0.75)
    orientation: tuple = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


SLICES = {str(k): At((-100.0, -50.0, THICKNESS_MM * k)) for k in range(10)}


def found(tmp_path, sessions, slices=SLICES, **how):
    (tmp_path / "reading.xml").write_text(message("1.2.3", sessions))
    return nodules_of(read_reading(tmp_path / "reading.xml"), slices, thickness_mm=THICKNESS_MM, **how)


def cube(x=20, y=30, radius=4, malignancy=3, slices=(2, 3, 4)):
    return nodule("".join(ring(str(k), x, y, radius) for k in slices), malignancy=malignancy)


def test_a_nodule_has_its_place_diameter_and_rating(tmp_path):
    (one,) = found(tmp_path, [[cube(malignancy=5)], [cube(malignancy=4)], [cube(malignancy=2)], []])
    assert one.centre_xyz_mm == pytest.approx((-100 + 20 * 0.75, -50 + 30 * 0.5, 6.0))
    # Inside a ring of radius 4 lie 7² pixels; on three slices of 2 mm.
    volume_mm3 = 3 * 7**2 * 0.5 * 0.75 * 2.0
    assert one.diameter_mm == pytest.approx((6 * volume_mm3 / math.pi) ** (1 / 3))
    assert (one.readers, one.malignancy) == (3, 4.0)


def test_three_of_four_readers_make_a_nodule(tmp_path):
    sessions = [[cube()], [cube(x=21)], [], []]
    assert found(tmp_path, sessions) == []
    assert len(found(tmp_path, sessions, readers=2)) == 1
    assert found(tmp_path, sessions, readers=2)[0].centre_xyz_mm[0] == pytest.approx(-100 + 20.5 * 0.75)
    assert len(found(tmp_path, [[cube()], [cube(x=21)], [], [cube()]])) == 1


def test_two_nodules_of_one_reader_are_no_agreement(tmp_path):
    assert found(tmp_path, [[cube(), cube(), cube()], []]) == []


def test_markings_apart_are_other_nodules_from_the_feet_upwards(tmp_path):
    high, low = cube(slices=(7, 8, 9)), cube(x=60)
    nodules = found(tmp_path, [[high, low]] * 3)
    assert [nodule.centre_xyz_mm[2] for nodule in nodules] == pytest.approx([6.0, 16.0])


def test_what_is_smaller_than_asked_is_left_out(tmp_path):
    small = cube(radius=2, slices=(2,))  # 3² pixels on one slice: 2.3 mm
    assert found(tmp_path, [[small]] * 3) == []
    assert found(tmp_path, [[small]] * 3, smallest_mm=2.0)[0].diameter_mm == pytest.approx(2.34, abs=0.01)


def test_a_hole_is_taken_out(tmp_path):
    hole = ring("3", 20, 30, 3).replace("TRUE", "FALSE")
    hollow = nodule("".join(ring(str(k), 20, 30, 4) for k in (2, 3, 4)) + hole)
    (one,) = found(tmp_path, [[hollow]] * 3)
    volume_mm3 = (3 * 7**2 - 5**2) * 0.5 * 0.75 * 2.0
    assert one.diameter_mm == pytest.approx((6 * volume_mm3 / math.pi) ** (1 / 3))
    assert one.malignancy is None


def test_slices_may_lie_in_any_direction(tmp_path):
    coronal = {uid: At((10.0, 2.0 * int(uid), 90.0), orientation=(1, 0, 0, 0, 0, -1)) for uid in SLICES}
    (one,) = found(tmp_path, [[cube()]] * 3, slices=coronal)
    assert one.centre_xyz_mm == pytest.approx((10 + 20 * 0.75, 6.0, 90 - 30 * 0.5))


def test_a_slice_that_is_not_in_the_scan_is_named(tmp_path):
    with pytest.raises(BadReading, match=r"series 1\.2\.3: .* on slice 77, which is not in the scan"):
        found(tmp_path, [[nodule(ring("77"))]] * 3)


@given(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12)), min_size=3, max_size=3, unique=True))
def test_pixels_inside_a_triangle_are_as_many_as_can_be_counted(corners):
    points = np.array(corners, float)
    a, b, c = points

    def side(p, q, x, y):
        return (q[0] - p[0]) * (y - p[1]) - (q[1] - p[1]) * (x - p[0])

    counted = 0
    for x in range(13):
        for y in range(13):
            sides = [side(p, q, x, y) for p, q in ((a, b), (b, c), (c, a))]
            counted += all(s > 0 for s in sides) or all(s < 0 for s in sides)
    assert _pixels_inside(points) == counted
