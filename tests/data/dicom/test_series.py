import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813 (its own examples call it so)
from pydicom import dcmread

from data.dicom import read_series
from data.errors import MissingHeader, UnreadableScan, WrongModality

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


@pytest.mark.parametrize("tag", ["ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "Modality", "Rows"])
def test_a_slice_without_a_place_is_named(write_series, tmp_path, tag):
    def spoil(dataset, z):
        if z == 2:
            delattr(dataset, tag)

    with pytest.raises(MissingHeader, match=rf"slice002\.dcm: no {tag}"):
        read_series(write_series(tmp_path, HU, alter=spoil))


def test_a_place_with_too_few_numbers_is_named(write_series, tmp_path):
    with pytest.raises(MissingHeader, match=r"ImagePositionPatient is \[1.0, 2.0\]; 3 numbers"):
        read_series(write_series(tmp_path, HU, alter=lambda d, z: setattr(d, "ImagePositionPatient", [1.0, 2.0])))


def test_a_series_that_is_not_ct_is_refused(write_series, tmp_path):
    def spoil(dataset, z):
        dataset.Modality = "MR"

    with pytest.raises(WrongModality, match="'MR'"):
        read_series(write_series(tmp_path, HU, alter=spoil))


@pytest.mark.parametrize("left, says", [(0, "not a DICOM"), (100, "not a DICOM"), (-40, "decoded")])
def test_a_truncated_file_is_named(write_series, tmp_path, left, says):
    paths = write_series(tmp_path, HU)
    paths[3].write_bytes(paths[3].read_bytes()[:left])
    with pytest.raises(UnreadableScan, match=rf"{paths[3].name}.*{says}"):
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


def test_every_lossless_transfer_syntax_holds_the_same_pixels(real_data):
    from data.dicom.headers import read_whole
    from data.dicom.hounsfield import to_hu

    folder = real_data / "dicom-transfer-syntaxes"
    lossless = ("1.2", "1.2.1", "1.2.1.99", "1.2.2", "1.2.4.57", "1.2.4.70", "1.2.4.80", "1.2.4.90", "1.2.5")
    expected = to_hu(read_whole(folder / "CTImage.dcm"), file="CTImage.dcm")
    checked = 0
    for path in sorted(folder.glob("CTImage.dcm_*")):
        if str(dcmread(path, specific_tags=[]).file_meta.TransferSyntaxUID).removeprefix("1.2.840.10008.") in lossless:
            np.testing.assert_array_equal(to_hu(read_whole(path), file=path.name), expected, err_msg=path.name)
            checked += 1
    assert checked == len(lossless)


@pytest.mark.parametrize("syntax", ["4.53", "4.55"])
def test_a_syntax_that_nothing_decodes_is_an_error(real_data, syntax):
    from data.dicom.headers import read_whole
    from data.dicom.hounsfield import to_hu

    (path,) = (real_data / "dicom-transfer-syntaxes").glob(f"*.{syntax}.dcm")
    with pytest.raises(UnreadableScan, match="decoded"):
        to_hu(read_whole(path), file=path.name)
