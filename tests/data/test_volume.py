import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from data.errors import BadVoxels, BrokenGeometry
from data.volume import AXIAL, CtVolume, as_hu

VOXELS = np.zeros((3, 4, 5), np.int16)
coordinates = st.tuples(*[st.floats(-500, 500)] * 3)
spacings = st.tuples(*[st.floats(0.3, 5)] * 3)
angles = st.tuples(*[st.floats(-180, 180)] * 3)


@given(coordinates, coordinates, spacings, angles)
def test_world_to_voxel_undoes_voxel_to_world_in_any_pose(voxel, origin, spacing, degrees):
    rotation = Rotation.from_euler("xyz", degrees, degrees=True).as_matrix().tolist()
    volume = CtVolume(VOXELS, spacing, origin, tuple(map(tuple, rotation)))
    np.testing.assert_allclose(volume.world_to_voxel(volume.voxel_to_world(voxel)), voxel, atol=1e-6)


def test_the_columns_of_direction_are_where_the_voxel_axes_point():
    # X runs to the patient's back (y), Y to the right (-x).
    volume = CtVolume(VOXELS, (3.0, 2.0, 1.0), (10.0, 20.0, 30.0), ((0, -1, 0), (1, 0, 0), (0, 0, 1)))
    assert volume.voxel_to_world((0, 0, 4)) == (10.0, 24.0, 30.0)
    assert volume.voxel_to_world((0, 2, 0)) == (6.0, 20.0, 30.0)
    assert volume.voxel_to_world((1, 0, 0)) == (10.0, 20.0, 33.0)


@pytest.mark.parametrize("spacing", [(0.0, 1.0, 1.0), (1.0, -1.0, 1.0), (1.0, 1.0, math.nan), (math.inf, 1.0, 1.0)])
def test_a_spacing_that_is_no_length_is_refused(spacing):
    with pytest.raises(BrokenGeometry, match="spacing"):
        CtVolume(VOXELS, spacing, (0.0, 0.0, 0.0))


def test_directions_must_stand_at_right_angles():
    with pytest.raises(BrokenGeometry, match="right angles"):
        CtVolume(VOXELS, (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), ((1, 0.2, 0), (0, 1, 0), (0, 0, 1)))
    with pytest.raises(BrokenGeometry, match="somewhere"):
        CtVolume(VOXELS, (1.0, 1.0, 1.0), (0.0, math.nan, 0.0), AXIAL)


@pytest.mark.parametrize(
    "voxels", [np.zeros((3, 4), np.int16), np.zeros((3, 4, 5), np.float32), np.zeros((0, 4, 5), np.int16)]
)
def test_only_a_box_of_int16_is_a_scan(voxels):
    with pytest.raises(BadVoxels, match="int16"):
        CtVolume(voxels, (1.0, 1.0, 1.0), (0.0, 0.0, 0.0))


def test_other_voxels_in_the_same_place_remember_why(phantom):
    brighter = phantom.with_array(phantom.hu_ZYX + np.int16(5), did="brightened")
    assert brighter.provenance == ("brightened",)
    assert brighter.origin_xyz_mm == phantom.origin_xyz_mm
    assert phantom.hu_ZYX[0, 0, 0] + 5 == brighter.hu_ZYX[0, 0, 0]
    with pytest.raises(BadVoxels, match="do not fit"):
        phantom.with_array(phantom.hu_ZYX[1:], did="cut")


def test_hounsfield_units_are_rounded_not_truncated():
    assert as_hu(np.array([-0.6, 0.4, 0.6, -999.5001]), where="x").tolist() == [-1, 0, 1, -1000]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 40_000.0, -40_000.0])
def test_voxels_that_are_no_hounsfield_units_are_refused_by_file(bad):
    with pytest.raises(BadVoxels, match=r"scan\.mhd"):
        as_hu(np.array([0.0, bad]), where="scan.mhd")
