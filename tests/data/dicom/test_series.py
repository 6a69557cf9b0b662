import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813 (its own examples call it so)

from data.dicom import read_series
from data.errors import (
    BrokenGeometry,
    EmptyFile,
    MissingHeader,
    MissingModality,
    MissingPosition,
    MissingSpacing,
    TruncatedScan,
    UnreadableScan,
    WrongModality,
)
from data.preprocess.orient import oriented

HU = np.random.default_rng(3).integers(-1000, 2000, (6, 9, 11)).astype(np.int16)

OBLIQUE = (0.8, 0.6, 0.0, -0.6, 0.8, 0.0)
SAGITTAL = (0, 1, 0, 0, 0, -1)


def itk(paths):
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(paths[0].parent)))
    return reader.Execute()


@pytest.mark.parametrize("orientation", [(1, 0, 0, 0, 1, 0), OBLIQUE, SAGITTAL])
def test_voxels_and_places_are_simpleitks(write_series, tmp_path, orientation):
    paths = write_series(
        tmp_path, HU, spacing_zyx_mm=(2.5, 0.7, 0.9), origin_xyz_mm=(-10.5, 20.25, -300.0), orientation=orientation
    )
    volume, image = read_series(paths), itk(paths)
    np.testing.assert_array_equal(volume.hu_ZYX, sitk.GetArrayFromImage(image))
    for index in [(0, 0, 0), (10, 8, 5), (3, 1, 4)]:
        assert volume.voxel_to_world(index[::-1]) == pytest.approx(image.TransformIndexToPhysicalPoint(index), abs=1e-3)


def test_the_order_of_the_files_does_not_matter(write_series, tmp_path):
    paths = write_series(tmp_path, HU)
    np.testing.assert_array_equal(read_series(paths[::-1]).hu_ZYX, read_series(paths).hu_ZYX)
    np.testing.assert_array_equal(read_series(paths).hu_ZYX, HU)


def test_each_slice_is_rescaled_by_its_own_numbers(write_series, tmp_path):
    def rescale(dataset, z):
        stored = np.frombuffer(dataset.PixelData, "<i2")
        dataset.RescaleIntercept = str(-1024 - 10 * z)
        dataset.PixelData = (stored + 10 * z).astype("<i2").tobytes()

    np.testing.assert_array_equal(read_series(write_series(tmp_path, HU, alter=rescale)).hu_ZYX, HU)


@pytest.mark.parametrize("orientation", [(-1, 0, 0, 0, -1, 0), SAGITTAL, (1, 0, 0, 0, 0, -1)])
def test_an_orthogonal_scan_is_turned_to_the_patient_without_losing_a_voxel(write_series, tmp_path, orientation):
    paths = write_series(tmp_path, HU, spacing_zyx_mm=(2.5, 0.7, 0.9), origin_xyz_mm=(7, 8, 9), orientation=orientation)
    turned, image = oriented(read_series(paths)), itk(paths)
    voxels = sitk.GetArrayFromImage(image)
    assert turned.direction == ((1, 0, 0), (0, 1, 0), (0, 0, 1))
    for index in np.ndindex(turned.hu_ZYX.shape):
        x, y, z = (int(i) for i in np.rint(image.TransformPhysicalPointToContinuousIndex(turned.voxel_to_world(index))))
        assert turned.hu_ZYX[index] == voxels[z, y, x]
        place = image.TransformIndexToPhysicalPoint((x, y, z))
        assert turned.voxel_to_world(index) == pytest.approx(place, abs=1e-3)


@pytest.mark.parametrize(
    "tag, error",
    [
        ("ImagePositionPatient", MissingPosition),
        ("ImageOrientationPatient", MissingPosition),
        ("PixelSpacing", MissingSpacing),
        ("Modality", MissingModality),
        ("Rows", MissingHeader),
        ("BitsStored", MissingHeader),
    ],
)
def test_a_slice_without_a_place_is_named(write_series, tmp_path, tag, error):
    def spoil(dataset, z):
        if z == 2:
            delattr(dataset, tag)

    with pytest.raises(error, match=rf"slice002\.dcm:.* {tag}"):
        read_series(write_series(tmp_path, HU, alter=spoil))


def test_a_place_with_too_few_numbers_is_named(write_series, tmp_path):
    with pytest.raises(MissingPosition, match=r"ImagePositionPatient is \(1.0, 2.0\); 3 numbers"):
        read_series(write_series(tmp_path, HU, alter=lambda d, z: setattr(d, "ImagePositionPatient", [1.0, 2.0])))


@pytest.mark.parametrize(
    "value, error", [(b"one\\2.0 ", MissingSpacing), (b"nan\\1.0 ", MissingSpacing), (b"0\\1.0 ", BrokenGeometry)]
)
def test_a_spacing_that_is_no_length_is_named(write_series, tmp_path, value, error):
    paths = write_series(tmp_path, HU, spacing_zyx_mm=(1.0, 1.25, 1.25))
    assert b"1.25\\1.25 " in paths[0].read_bytes()
    for path in paths:
        path.write_bytes(path.read_bytes().replace(b"1.25\\1.25 ", value.ljust(10)))
    with pytest.raises(error, match="PixelSpacing"):
        read_series(paths)


@pytest.mark.parametrize(
    "orientation, says", [((1, 0, 0, 0.5, 1, 0), "right angles"), ((1, 0, 0, 0, 2, 0), "right angles")]
)
def test_directions_that_are_none_are_refused(write_series, tmp_path, orientation, says):
    alter = lambda d, z: setattr(d, "ImageOrientationPatient", list(orientation))  # noqa: E731
    with pytest.raises(BrokenGeometry, match=says):
        read_series(write_series(tmp_path, HU, alter=alter))


def test_a_scan_without_modality_can_be_accepted_by_name(write_series, tmp_path):
    paths = write_series(tmp_path, HU, alter=lambda d, z: delattr(d, "Modality"))
    with pytest.raises(MissingModality, match=r"accept: \[missing-modality\]"):
        read_series(paths)
    np.testing.assert_array_equal(read_series(paths, accept=["missing-modality"]).hu_ZYX, HU)


def test_a_series_that_is_not_ct_is_refused(write_series, tmp_path):
    def spoil(dataset, z):
        dataset.Modality = "MR"

    with pytest.raises(WrongModality, match="'MR'"):
        read_series(write_series(tmp_path, HU, alter=spoil))


@pytest.mark.parametrize(
    "left, error, says",
    [
        (0, EmptyFile, "zero bytes"),
        (100, UnreadableScan, "not a DICOM"),
        (200, MissingHeader, ""),
        (-40, TruncatedScan, "158 bytes of pixels, 198 are needed"),
    ],
)
def test_a_truncated_file_is_named(write_series, tmp_path, left, error, says):
    paths = write_series(tmp_path, HU)
    paths[3].write_bytes(paths[3].read_bytes()[:left])
    with pytest.raises((error, UnreadableScan) if left == 200 else error, match=rf"{paths[3].name}.*{says}"):
        read_series(paths)


def test_the_real_series_is_simpleitks_voxel_by_voxel(real_data):
    folder = real_data / "lidc-idri-0314/dicom"
    paths = sorted(folder.iterdir())
    volume, image = read_series(paths), itk(paths)
    np.testing.assert_array_equal(volume.hu_ZYX, sitk.GetArrayFromImage(image))
    assert (volume.hu_ZYX.min(), volume.hu_ZYX.max(), int(np.median(volume.hu_ZYX))) == (-1000, 1979, -948)
    corner = (511, 511, 274)
    assert volume.voxel_to_world(corner[::-1]) == pytest.approx(image.TransformIndexToPhysicalPoint(corner), abs=1e-3)
    nodule = volume.world_to_voxel((-57.439, 131.233, -520.359))
    assert nodule == pytest.approx((159.44, 243.50, 183.76), abs=0.005)
