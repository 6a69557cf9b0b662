import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.dicom import read_series
from data.dicom.headers import SlicePlace
from data.dicom.stack import stack
from data.errors import (
    BrokenGeometry,
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
    box = stack(places([5.0, 0.0, 2.5, 7.5]))
    assert box.order == (1, 2, 0, 3)
    assert box.spacing_zyx_mm == (2.5, 0.7, 0.8)
    assert box.origin_xyz_mm == (0.0, 0.0, 0.0)


@given(st.permutations(range(7)), st.floats(0.3, 5))
def test_any_order_gives_the_same_box(order, step):
    assert stack(places([i * step for i in order])).spacing_zyx_mm[0] == pytest.approx(step)


def test_a_stack_that_is_numbered_against_its_normal_is_sorted_along_it():
    # Rows run to the right, columns to the back: the normal points to the feet, the lowest slice along it is the head.
    box = stack(places([0.0, 1.0, 2.0], orientation=(-1.0, 0.0, 0.0, 0.0, 1.0, 0.0)))
    assert box.order == (2, 1, 0)
    assert np.array(box.direction)[:, 2].tolist() == [0.0, 0.0, -1.0]


def test_positions_rounded_to_tenths_of_a_millimetre_are_even():
    heights = np.round(np.arange(200) * 0.625, 1)
    assert stack(places(heights)).spacing_zyx_mm[0] == pytest.approx(0.625, abs=1e-3)


@pytest.mark.parametrize(
    "heights, error, says",
    [
        ([], TooFewSlices, "0 slices"),
        ([0, 1], TooFewSlices, "2 slices"),
        ([0, 1, 2, 4, 5, 6, 7], MissingSlice, r"s2\.dcm and s3\.dcm are 2\.000 mm apart.*1 slices are missing"),
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
        stack(places(heights))


@given(st.integers(5, 60), st.data())
def test_a_missing_slice_never_passes(slices, data):
    lost = data.draw(st.integers(1, slices - 2))
    with pytest.raises(NotAVolume):
        stack(places([z for z in range(slices) if z != lost]))


@pytest.mark.parametrize("degrees", [2, 15, -20])
def test_a_tilted_gantry_is_told_from_a_box(degrees):
    with pytest.raises(TiltedStack, match=rf"{abs(degrees)}\.0° of tilt"):
        stack(places(range(20), shift=lambda z: (0.0, z * np.tan(np.radians(degrees)))))


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
            stack([*one, other])


def test_an_orientation_that_is_none_is_refused():
    with pytest.raises(BrokenGeometry, match="right angles"):
        stack(places(range(4), orientation=(1.0, 0.0, 0.0, 0.5, 1.0, 0.0)))


@pytest.mark.parametrize(
    "folder, error",
    [
        ("gantrytilting/001", TiltedStack),
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
