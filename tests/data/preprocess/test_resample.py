import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813 (its own examples call it so)
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from data.errors import BadSetting
from data.preprocess.resample import isotropic
from data.volume import AXIAL, CtVolume

OBLIQUE = tuple(map(tuple, Rotation.from_euler("xyz", (10, 20, 30), degrees=True).as_matrix().tolist()))


def noise(shape, spacing=(2.5, 0.7, 0.8), direction=AXIAL):
    hu = np.random.default_rng(0).integers(-1000, 1000, shape).astype(np.int16)
    return CtVolume(hu, spacing, (-101.5, 33.25, -700.125), direction)


@pytest.mark.parametrize("spacing_mm", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("direction", [AXIAL, OBLIQUE], ids=["axial", "oblique"])
def test_voxels_are_simpleitks_linear_interpolation(spacing_mm, direction):
    volume = noise((9, 21, 17), direction=direction)
    ours = isotropic(volume, spacing_mm=spacing_mm)
    image = sitk.GetImageFromArray(volume.hu_ZYX.astype(np.float64))
    image.SetSpacing(volume.spacing_zyx_mm[::-1])
    image.SetOrigin(volume.origin_xyz_mm)
    image.SetDirection(np.ravel(direction).tolist())
    theirs = sitk.Resample(
        image, ours.hu_ZYX.shape[::-1], sitk.Transform(), sitk.sitkLinear, ours.origin_xyz_mm,
        ours.spacing_zyx_mm[::-1], np.ravel(ours.direction).tolist(), -5000.0,
    )  # fmt: skip
    expected = sitk.GetArrayFromImage(theirs)
    inside = expected > -5000  # SimpleITK leaves out some voxels on the very rim, which we continue
    assert inside.mean() > 0.8
    assert np.abs(ours.hu_ZYX - expected)[inside].max() <= 0.51  # rounding to whole units


@given(
    st.tuples(*[st.integers(2, 12)] * 3),
    st.tuples(*[st.floats(0.4, 5)] * 3),
    st.floats(0.4, 4),
    st.sampled_from([AXIAL, OBLIQUE]),
)
@settings(max_examples=60, deadline=None)
def test_the_new_grid_covers_the_old_scan_and_not_much_more(shape, spacing, new, direction):
    volume = noise(shape, spacing, direction)
    resampled = isotropic(volume, spacing_mm=new)
    edges = np.array([volume.world_to_voxel(resampled.voxel_to_world(corner)) for corner in _edges(resampled)])
    old_low, old_high = np.full(3, -0.5), np.array(shape) - 0.5
    slack = 1e-3 * max(new, *spacing)
    np.testing.assert_allclose(edges[0], old_low, atol=slack)
    assert (edges[1] >= old_high - slack).all()
    assert (edges[1] < old_high + new / np.array(spacing) + slack).all()


def _edges(volume):
    return (-0.5, -0.5, -0.5), tuple(n - 0.5 for n in volume.hu_ZYX.shape)


def test_a_ramp_stays_where_it_is_in_the_patient():
    # HU = 10 · (mm from the first slice), so that the value of a voxel tells its place; clamped on the rim.
    z_mm = 2.5 * np.arange(20)
    hu = np.broadcast_to((10 * z_mm)[:, None, None], (20, 4, 4)).astype(np.int16)
    volume = CtVolume(hu, (2.5, 1.0, 1.0), (0.0, 0.0, 100.0))
    resampled = isotropic(volume, spacing_mm=1.0)
    for k in range(2, resampled.hu_ZYX.shape[0] - 2):
        height = resampled.voxel_to_world((k, 0, 0))[2] - 100.0
        assert resampled.hu_ZYX[k, 1, 1] == pytest.approx(10 * height, abs=0.51)


def test_one_slice_can_be_resampled():
    resampled = isotropic(noise((1, 4, 4)), spacing_mm=1.0)
    assert resampled.hu_ZYX.shape[0] == 3  # 2.5 mm thick
    assert (resampled.hu_ZYX[0] == resampled.hu_ZYX[2]).all()


def test_equal_spacing_is_left_alone():
    volume = noise((4, 5, 6), spacing=(1.0, 1.0000001, 1.0))
    assert isotropic(volume, spacing_mm=1.0) is volume
    assert isotropic(volume, spacing_mm=None) is volume
    assert isotropic(noise((4, 5, 6)), spacing_mm=0.5).provenance == ("resampled to 0.5 mm",)


@pytest.mark.parametrize("spacing_mm", [0.0, -1.0, float("nan"), float("inf")])
def test_a_spacing_that_is_none_is_refused(spacing_mm):
    with pytest.raises(BadSetting, match="spacing_mm"):
        isotropic(noise((4, 5, 6)), spacing_mm=spacing_mm)
