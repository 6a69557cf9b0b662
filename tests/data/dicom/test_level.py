import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from data.dicom import read_series
from data.dicom.level import levelled


@given(st.lists(st.floats(0.2, 3.0), min_size=2, max_size=12), st.floats(-20, 20))
def test_what_rises_evenly_is_interpolated_exactly(steps, slope):
    heights = np.concatenate([[0], np.cumsum(steps)])
    heights *= round(heights[-1] + 0.5) / heights[-1]
    hu = np.rint(500 + 10 * slope * heights).astype(np.int16)[:, None, None]
    expected = 500 + 10 * slope * np.arange(round(heights[-1]) + 1)
    assert np.abs(levelled(hu, heights)[:, 0, 0] - expected).max() <= 1.01  # both are rounded


def test_slices_that_lie_right_are_kept_as_they_are():
    hu = np.random.default_rng(0).integers(-1000, 1000, (4, 5, 6)).astype(np.int16)
    np.testing.assert_array_equal(levelled(hu, np.array([0.0, 1.0, 3.0, 4.0]))[[0, 1, 3, 4]], hu)


def test_a_missing_slice_is_interpolated_where_the_hospital_says_so(write_series, tmp_path):
    hu = np.zeros((8, 4, 5), np.int16)
    hu[:] = (np.arange(8) * 100)[:, None, None]
    volume = read_series(write_series(tmp_path, hu, spacing_zyx_mm=(2.5, 1, 1), leave_out=[3]), resample=True)
    np.testing.assert_array_equal(volume.hu_ZYX, hu)
    assert volume.spacing_zyx_mm[0] == 2.5
    assert volume.provenance == ("1 missing slices interpolated",)
