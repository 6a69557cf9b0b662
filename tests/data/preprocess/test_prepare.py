from dataclasses import replace

import numpy as np
import pytest

from data.errors import BadSetting
from data.preprocess import Preprocess


def test_the_window_becomes_zero_to_one_and_saturates(phantom):
    hu = phantom.hu_ZYX.copy()
    hu[0, 0, :5] = [-2000, -1000, -300, 400, 3000]
    prepared = Preprocess(None, 4, (-1000, 400)).prepare(phantom.with_array(hu, did="marked"))
    # The voxel at the centre of a cube of four is its third: index 2.
    row = [
        Preprocess(None, 4, (-1000, 400)).crop(prepared, prepared.voxel_to_world((0, 0, x)))[2, 2, 2] for x in range(5)
    ]
    np.testing.assert_allclose(row, [0, 0, 0.5, 1, 1], atol=1e-6)


def test_what_lies_outside_the_scan_is_air(phantom):
    narrow, wide = Preprocess(None, 8, (-1000, 400)), Preprocess(None, 8, (-1200, 800))
    corner = phantom.voxel_to_world((0, 0, 0))
    assert narrow.crop(narrow.prepare(phantom), corner)[0, 0, 0] == 0.0
    assert wide.crop(wide.prepare(phantom), corner)[0, 0, 0] == pytest.approx(200 / 2000)


def test_a_prepared_scan_is_turned_windowed_and_cubic(phantom):
    upside_down = replace(phantom, direction=((1, 0, 0), (0, 1, 0), (0, 0, -1)))
    prepared = Preprocess(1.0, 8, (-900, 400)).prepare(upside_down)
    assert prepared.spacing_zyx_mm == (1.0, 1.0, 1.0)
    assert prepared.direction[2] == (0.0, 0.0, 1.0)
    assert prepared.hu_ZYX.dtype == np.int16
    assert prepared.hu_ZYX.min() == -900


def test_a_crop_looks_the_same_whichever_way_its_scanner_stores_slices(phantom):
    way = Preprocess(1.0, 6, (-1000, 5000))
    flipped = replace(
        phantom,
        hu_ZYX=phantom.hu_ZYX[::-1, :, ::-1],
        origin_xyz_mm=phantom.voxel_to_world((11, 0, 23)),
        direction=((-1, 0, 0), (0, 1, 0), (0, 0, -1)),
    )
    centre = phantom.voxel_to_world((6.2, 9.7, 11.4))
    np.testing.assert_array_equal(way.crop(way.prepare(phantom), centre), way.crop(way.prepare(flipped), centre))


def test_cubes_of_grey_values_are_kept_as_they_are(phantom):
    way = Preprocess(spacing_mm=None, size=12, window_hu=[0, 255])
    grey = phantom.with_array((phantom.hu_ZYX % 256).astype(np.int16), did="grey")
    crop = way.crop(way.prepare(grey), grey.voxel_to_world((6, 6, 6)))
    np.testing.assert_allclose(crop * 255, grey.hu_ZYX[:12, :12, :12], atol=1e-4)
    assert crop.dtype == np.float32


def test_the_fingerprint_names_every_parameter():
    ways = [Preprocess(1.0, 32, (-1000, 400)), Preprocess(None, 32, (-1000, 400)), Preprocess(1.0, 48, (-1000, 400)),
            Preprocess(1.0, 32, (-1000, 300)), Preprocess(2.0, 32, (-1000, 400))]  # fmt: skip
    assert len({way.fingerprint() for way in ways}) == len(ways)
    assert ways[0].fingerprint() == Preprocess(1, 32, [-1000.0, 400]).fingerprint()


def test_crops_of_any_size_share_the_prepared_scan():
    assert (
        Preprocess(1.0, 32, (-1000, 400)).volume_fingerprint() == Preprocess(1.0, 48, (-1000, 400)).volume_fingerprint()
    )
    assert (
        Preprocess(1.0, 32, (-1000, 400)).volume_fingerprint() != Preprocess(1.1, 32, (-1000, 400)).volume_fingerprint()
    )


@pytest.mark.parametrize(
    "size, window, says",
    [(0, (-1000, 400), "size"), (2.5, (-1000, 400), "size"), (8, (400, -1000), "lower first"), (8, (0,), "two numbers"),
     (8, (-1000, 40_000), "between"), (8, (float("nan"), 1), "window_hu")],
)  # fmt: skip
def test_parameters_that_make_no_sense_are_refused_at_once(size, window, says):
    with pytest.raises(BadSetting, match=says):
        Preprocess(1.0, size, window)
