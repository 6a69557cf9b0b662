import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813 (its own examples call it so)
from scipy.spatial.transform import Rotation

from data.errors import BadVoxels, BrokenGeometry, MissingHeader, UnreadableScan
from data.luna16 import mhd
from data.volume import CtVolume

OBLIQUE = tuple(map(tuple, Rotation.from_euler("xyz", (10, 20, 30), degrees=True).as_matrix().tolist()))
FLIPPED = ((-1.0, 0.0, 0.0), (0.0, -1.0, 0.0), (0.0, 0.0, 1.0))  # as some LUNA16 scans are


@pytest.fixture(params=[OBLIQUE, FLIPPED], ids=["oblique", "flipped"])
def scan(request, phantom) -> CtVolume:
    return CtVolume(phantom.hu_ZYX, phantom.spacing_zyx_mm, phantom.origin_xyz_mm, request.param)


@pytest.mark.parametrize("compress", [False, True])
def test_what_is_written_reads_back_exactly(scan, tmp_path, compress):
    mhd.write(tmp_path / "s.mhd", scan, compress=compress)
    back = mhd.read(tmp_path / "s.mhd")
    np.testing.assert_array_equal(back.hu_ZYX, scan.hu_ZYX)
    assert (back.spacing_zyx_mm, back.origin_xyz_mm) == (scan.spacing_zyx_mm, scan.origin_xyz_mm)
    assert back.direction == scan.direction
    assert (tmp_path / ("s.zraw" if compress else "s.raw")).is_file()


@pytest.mark.parametrize("compress", [False, True])
def test_itk_reads_what_we_write_as_we_do(scan, tmp_path, compress):
    mhd.write(tmp_path / "s.mhd", scan, compress=compress)
    image = sitk.ReadImage(str(tmp_path / "s.mhd"))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image), scan.hu_ZYX)
    for index in [(0, 0, 0), (3, 7, 5), (23, 19, 11)]:
        assert scan.voxel_to_world(index[::-1]) == pytest.approx(image.TransformIndexToPhysicalPoint(index), abs=1e-9)


@pytest.mark.parametrize("name", ["s.mhd", "s.mha"])
@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("dtype", [np.int16, np.uint8, np.int32, np.float32, np.float64])
def test_we_read_what_itk_writes(scan, tmp_path, name, compress, dtype):
    image = sitk.GetImageFromArray((scan.hu_ZYX % 200).astype(dtype))
    image.SetSpacing(scan.spacing_zyx_mm[::-1])
    image.SetOrigin(scan.origin_xyz_mm)
    image.SetDirection(np.ravel(scan.direction).tolist())
    sitk.WriteImage(image, str(tmp_path / name), compress)
    back = mhd.read(tmp_path / name)
    np.testing.assert_array_equal(back.hu_ZYX, scan.hu_ZYX % 200)
    point = back.voxel_to_world((5, 7, 3))
    assert point == pytest.approx(image.TransformIndexToPhysicalPoint((3, 7, 5)), abs=1e-3)


def edit(path, old, new):
    path.write_text(path.read_text().replace(old, new))


@pytest.mark.parametrize(
    "old, new, error, says",
    [
        ("DimSize = 24 20 12", "DimSize = 24 20 13", UnreadableScan, "truncated"),
        ("MET_SHORT", "MET_STRANGE", UnreadableScan, "MET_STRANGE"),
        ("s.raw", "gone.raw", UnreadableScan, "gone.raw"),
        ("s.raw", "LIST", UnreadableScan, "one file per slice"),
        ("ElementDataFile", "Elsewhere", UnreadableScan, "ElementDataFile"),
        ("ElementSpacing", "Spacing", MissingHeader, "ElementSpacing"),
        ("DimSize = 24 20 12", "DimSize = 24 20", BrokenGeometry, "2 numbers"),
        ("Offset = ", "Offset = x ", UnreadableScan, "not a list of numbers"),
        ("TransformMatrix = 1 0", "TransformMatrix = 1 1", BrokenGeometry, "right angles"),
    ],
)
def test_a_broken_header_is_named(phantom, tmp_path, old, new, error, says):
    mhd.write(tmp_path / "s.mhd", phantom)
    edit(tmp_path / "s.mhd", old, new)
    with pytest.raises(error, match=says):
        mhd.read(tmp_path / "s.mhd")


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(UnreadableScan, match=r"nothing\.mhd"):
        mhd.read(tmp_path / "nothing.mhd")


def test_damaged_compressed_voxels_are_named(phantom, tmp_path):
    mhd.write(tmp_path / "s.mhd", phantom, compress=True)
    (tmp_path / "s.zraw").write_bytes((tmp_path / "s.zraw").read_bytes()[:-9])
    with pytest.raises(UnreadableScan, match="inflated"):
        mhd.read(tmp_path / "s.mhd")


def test_nan_in_a_float_volume_is_refused(tmp_path):
    hu = np.zeros((3, 4, 5), np.float32)
    hu[1, 2, 3] = np.nan
    sitk.WriteImage(sitk.GetImageFromArray(hu), str(tmp_path / "s.mhd"))
    with pytest.raises(BadVoxels, match="1 of 60 voxels"):
        mhd.read(tmp_path / "s.mhd")
