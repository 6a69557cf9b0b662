import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.dicom import read_series
from data.dicom.box import box_of
from data.dicom.place import SlicePlace
from data.errors import (
    DuplicatePosition,
    MissingSlice,
    MixedSlices,
    NotAVolume,
    TiltedStack,
    TooFewSlices,
    UnevenSteps,
    WrongModality,
)

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


def places(heights, *, orientation=AXIAL, shift=lambda z: (0.0, 0.0)):
    return [
        SlicePlace(f"s{i}.dcm", 8, 9, (0.7, 0.8), (*shift(z), float(z)), orientation) for i, z in enumerate(heights)
    ]


def test_slices_are_sorted_by_position():
    box = box_of(places([5.0, 0.0, 2.5, 7.5]))
    assert box.order == (1, 2, 0, 3)
    assert box.spacing_zyx_mm == (2.5, 0.7, 0.8)
    assert box.origin_xyz_mm == (0.0, 0.0, 0.0)


@given(st.permutations(range(7)), st.floats(0.3, 5))
def test_any_order_gives_the_same_box(order, step):
    assert box_of(places([i * step for i in order])).spacing_zyx_mm[0] == pytest.approx(step)


def test_a_stack_that_is_numbered_against_its_normal_is_sorted_along_it():
    # Rows run to the right, columns to the back: the normal points to the feet, the lowest slice along it is the head.
    box = box_of(places([0.0, 1.0, 2.0], orientation=(-1.0, 0.0, 0.0, 0.0, 1.0, 0.0)))
    assert box.order == (2, 1, 0)
    assert np.array(box.direction)[:, 2].tolist() == [0.0, 0.0, -1.0]


def test_positions_rounded_to_tenths_of_a_millimetre_are_even():
    heights = np.round(np.arange(200) * 0.625, 1)
    assert box_of(places(heights)).spacing_zyx_mm[0] == pytest.approx(0.625, abs=1e-3)


@pytest.mark.parametrize(
    "heights, error, says",
    [
        ([], TooFewSlices, "0 slices"),
        ([0, 1], TooFewSlices, "2 slices"),
        ([0, 1, 2, 4, 5, 6, 7], MissingSlice, r"s2\.dcm and s3\.dcm are 2\.000 mm apart.*1 slice is missing"),
        ([0, 1, 2, 6, 7, 8, 9], MissingSlice, "3 slices are missing"),
        ([0, 1, 2, 3, 4.4, 5.4, 6.4], UnevenSteps, r"s3\.dcm and s4\.dcm are 1\.400 mm"),
        ([0, 1, 2.2, 3, 4], UnevenSteps, "uneven"),
        ([0, 1, 1, 2, 3], DuplicatePosition, r"s1\.dcm and s2\.dcm"),
        ([0, 1, 1.02, 2, 3], DuplicatePosition, "0.020 mm"),
        ([4, 4, 4, 4], DuplicatePosition, "0.000 mm"),
    ],
)
def test_what_is_not_a_box_is_named(heights, error, says):
    with pytest.raises(error, match=says):
        box_of(places(heights))


@given(st.integers(5, 60), st.data())
def test_a_missing_slice_never_passes(slices, data):
    lost = data.draw(st.integers(1, slices - 2))
    with pytest.raises(NotAVolume):
        box_of(places([z for z in range(slices) if z != lost]))


def lean(degrees):
    return lambda z: (0.0, z * np.tan(np.radians(degrees)))


@pytest.mark.parametrize("degrees", [2, 15, -30])
def test_a_tilted_gantry_is_known_by_an_even_shift(degrees):
    box = box_of(places(range(20), shift=lean(degrees)))
    assert box.remarks == (f"gantry tilt of {abs(degrees)}.0° sheared upright",)
    # Rows are 0.7 mm apart: slice z lies z·tan(tilt)/0.7 rows further on.
    np.testing.assert_allclose(box.shifts_yx[:, 0], np.arange(20) * np.tan(np.radians(degrees)) / 0.7)
    np.testing.assert_allclose(box.shifts_yx[:, 1], 0)


def test_positions_rounded_to_tenths_of_a_millimetre_are_upright():
    wobble = np.random.default_rng(0).choice([-0.05, 0.0, 0.05], 40)
    assert box_of(places(range(40), shift=lambda z: (wobble[z], 0.0))).shifts_yx is None


@pytest.mark.parametrize(
    "shift, says",
    [
        (lambda z: (0.0, 5.0 if z == 7 else 0.0), r"s7\.dcm lies 5\.00 mm beside the line"),
        (lambda z: (0.0, 0.02 * z * z), "beside the line"),
        (lambda z: (2.0 * z, 0.0), r"63\.4° of tilt"),
    ],
)
def test_slices_shifted_as_no_gantry_shifts_them_are_refused(shift, says):
    with pytest.raises(TiltedStack, match=says):
        box_of(places(range(20), shift=shift))


@pytest.mark.parametrize(
    "heights, levels, step, remark",
    [
        ([0, 1, 2, 4, 5, 6, 7], [0, 1, 2, 4, 5, 6, 7], 1.0, "1 missing slices interpolated"),
        ([0, 2, 4, 10, 12], [0, 1, 2, 5, 6], 2.0, "2 missing slices interpolated"),
        (
            [0, 1, 2, 3.3, 4.3, 5.2],
            [0, 1 / 1.04, 2 / 1.04, 3.3 / 1.04, 4.3 / 1.04, 5],
            1.04,
            "uneven steps of 0.900 to",
        ),
    ],
)
def test_what_is_missing_can_be_interpolated_where_that_is_asked(heights, levels, step, remark):
    with pytest.raises(NotAVolume):
        box_of(places(heights))
    box = box_of(places(heights), resample=True)
    assert box.spacing_zyx_mm[0] == pytest.approx(step)
    np.testing.assert_allclose(box.heights, levels)
    assert box.remarks[0].startswith(remark)


@pytest.mark.parametrize(
    "heights, error", [([0, 1, 1, 2, 3], DuplicatePosition), ([0, 1, 2, 8, 9], MissingSlice), ([0, 1], TooFewSlices)]
)
def test_what_cannot_be_interpolated_is_refused_all_the_same(heights, error):
    with pytest.raises(error):
        box_of(places(heights), resample=True)


def test_slices_of_two_kinds_are_refused():
    one = places(range(4))
    for other, says in [
        (
            SlicePlace("odd.dcm", 9, 9, (0.7, 0.8), (0, 0, 4), AXIAL),
            r"size: s0\.dcm has \(8, 9\), odd\.dcm has \(9, 9\)",
        ),
        (SlicePlace("odd.dcm", 8, 9, (0.7, 0.9), (0, 0, 4), AXIAL), "pixel spacing"),
        (SlicePlace("odd.dcm", 8, 9, (0.7, 0.8), (0, 0, 4), (0.0, 1.0, 0.0, -1.0, 0.0, 0.0)), "orientation"),
    ]:
        with pytest.raises(MixedSlices, match=says):
            box_of([*one, other])


@pytest.mark.parametrize(
    "folder, error",
    [
        ("sliceincrement/001", MissingSlice),
        ("sliceincrement/002", MissingSlice),
        ("notavolume/001", DuplicatePosition),
        ("slicecount/001", (TooFewSlices, WrongModality)),
        ("sliceorientation/001", (MixedSlices, WrongModality)),
    ],
)
def test_the_odd_series_of_real_scanners_are_refused_by_name(real_data, folder, error):
    with pytest.raises(error):
        read_series(sorted((real_data / "dicom-odd" / folder).iterdir()))


def test_the_real_tilted_series_becomes_upright(real_data):
    volume = read_series(sorted((real_data / "dicom-odd/gantrytilting/001").iterdir()))
    # Slices 5 mm apart along the table, tilted by 14°: 5·cos 14° along their normal, 5·sin 14° / 0.418 = 2.89 rows.
    assert volume.provenance == ("gantry tilt of 14.0° sheared upright",)
    assert volume.spacing_zyx_mm == pytest.approx((5 * np.cos(np.radians(14)), 0.41796875, 0.41796875))
    assert volume.hu_ZYX.shape == (4, 512 + 9, 512)
