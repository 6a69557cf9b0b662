import numpy as np
import pytest

from data.dicom import read_series
from data.dicom.shear import sheared
from data.volume import AIR_HU


def blob(xyz_mm):
    """Hounsfield units of a soft ball of 8 mm (standard deviation) around (3, -5, 12), in air."""
    away2 = ((np.asarray(xyz_mm) - (3.0, -5.0, 12.0)) ** 2).sum(axis=-1)
    return -900 + 1000 * np.exp(-away2 / (2 * 8.0**2))


@pytest.mark.parametrize("degrees", [-22, 7.5, 30])
@pytest.mark.parametrize("across", [(1.0, 0.0, 0.0), (-1.0, 0.0, 0.0)])
def test_a_tilted_scan_shows_everything_where_it_is(write_series, tmp_path, degrees, across):
    tilt = np.radians(degrees)
    down = (0.0, np.cos(tilt), -np.sin(tilt))
    slices, rows, columns, step, spacing = 24, 60, 50, 2.0, 0.8
    origin = np.array([-across[0] * columns / 2 * spacing, -30.0, -12.0])
    z, y, x = np.indices((slices, rows, columns))
    place = (
        origin
        + x[..., None] * spacing * np.array(across)
        + y[..., None] * spacing * np.array(down)
        + z[..., None] * step * np.array([0, 0, 1.0])
    )
    paths = write_series(
        tmp_path,
        np.rint(blob(place)).astype(np.int16),
        spacing_zyx_mm=(step, spacing, spacing),
        origin_xyz_mm=origin,
        orientation=(*across, *down),
        table_xyz=(0, 0, 1),
    )
    volume = read_series(paths)
    assert volume.provenance == (f"gantry tilt of {abs(degrees):.1f}° sheared upright",)
    assert volume.spacing_zyx_mm == pytest.approx((step * np.cos(tilt), spacing, spacing))
    found = volume.hu_ZYX.astype(float)
    expected = np.array([blob(volume.voxel_to_world(index)) for index in np.ndindex(found.shape)]).reshape(found.shape)
    measured = np.broadcast_to((found != AIR_HU).any(axis=2, keepdims=True), found.shape)
    assert measured.mean() > 0.6
    # Linear interpolation over 0.8 mm: 0.8²/8 of the second derivative (15.6 HU/mm²) is 1.3 HU, rounding 1 more. The
    # ball's flank falls by 75 HU a millimetre: a shear that is off by a twentieth of a voxel is found.
    inside = measured & (np.abs(np.gradient(measured.astype(float), axis=1)) == 0)
    assert np.abs(found - expected)[inside].max() < 2.5
    z, y, x = np.unravel_index(np.argmax(found), found.shape)
    assert np.linalg.norm(np.subtract(volume.voxel_to_world((z, y, x)), (3, -5, 12))) < 1.5


def test_whole_pixels_are_shifted_without_a_change_and_the_rest_is_air():
    hu = np.arange(2 * 3 * 2, dtype=np.int16).reshape(2, 3, 2)
    out, corner = sheared(hu, np.array([[0.0, 0.0], [-2.0, 1.0]]))
    assert corner == (-2, 0)
    assert out.shape == (2, 5, 3)
    np.testing.assert_array_equal(out[0, 2:, :2], hu[0])
    np.testing.assert_array_equal(out[1, :3, 1:], hu[1])
    assert (out == AIR_HU).sum() == out.size - hu.size


def test_half_pixels_are_the_mean_of_their_neighbours():
    hu = np.array([[[0], [100], [300]], [[0], [100], [300]]], np.int16)
    out, _ = sheared(hu, np.array([[0.0, 0.0], [0.5, 0.0]]))
    assert out[1, :, 0].tolist() == [0, 50, 200, 300]
    out, _ = sheared(hu, np.array([[0.0, 0.0], [0.25, 0.0]]))
    assert out[1, :, 0].tolist() == [0, 75, 250, AIR_HU]
