import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.errors import CropTooLarge, OutsideScan
from data.preprocess.crop import corner_of, cut
from data.volume import CtVolume

HU = np.arange(10 * 11 * 12, dtype=np.int16).reshape(10, 11, 12)
SCAN = CtVolume(HU, (1.0, 1.0, 1.0), (100.0, 200.0, 300.0))


@pytest.mark.parametrize("size", [1, 4, 5, 10])
def test_the_voxel_at_the_centre_becomes_voxel_half_the_size(size):
    for z, y, x in [(5, 5, 5), (0, 0, 0), (9, 10, 11)]:
        corner = corner_of(SCAN, (100.0 + x, 200.0 + y, 300.0 + z), size=size)
        cube = cut(HU, corner, size=size, air=-1)
        assert cube.shape == (size, size, size)
        assert cube[size // 2, size // 2, size // 2] == HU[z, y, x]


@given(st.tuples(st.integers(0, 9), st.integers(0, 10), st.integers(0, 11)), st.integers(1, 10))
def test_a_cube_is_the_scan_where_there_is_one_and_air_elsewhere(centre_zyx, size):
    z, y, x = centre_zyx
    corner = corner_of(SCAN, SCAN.voxel_to_world((z, y, x)), size=size)
    padded = np.pad(HU, size, constant_values=-777)
    expected = padded[tuple(slice(c + size, c + 2 * size) for c in corner)]
    np.testing.assert_array_equal(cut(HU, corner, size=size, air=-777), expected)


def test_a_cube_inside_the_scan_is_a_view():
    assert np.shares_memory(cut(HU, (1, 2, 3), size=4, air=0), HU)


@pytest.mark.parametrize(
    "centre, inside",
    [
        ((99.5, 199.5, 299.5), True),  # the outer edge of the first voxel
        ((111.5, 210.5, 309.5), True),
        ((99.4, 205.0, 305.0), False),
        ((105.0, 211.6, 305.0), False),
        ((105.0, 205.0, 5.0), False),
        ((math.nan, 205.0, 305.0), False),
        ((105.0, math.inf, 305.0), False),
    ],
)
def test_a_place_outside_the_scan_is_refused(centre, inside):
    if inside:
        assert corner_of(SCAN, centre, size=3)
    else:
        with pytest.raises(OutsideScan, match="inside this scan"):
            corner_of(SCAN, centre, size=3)


def test_a_crop_larger_than_the_scan_is_refused():
    with pytest.raises(CropTooLarge, match="11³ voxels does not fit a scan of 10 × 11 × 12"):
        corner_of(SCAN, (105.0, 205.0, 305.0), size=11)
