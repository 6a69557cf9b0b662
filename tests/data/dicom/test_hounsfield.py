import numpy as np
import pydicom
import pytest
from pydicom.uid import ExplicitVRLittleEndian, RLELossless

from data.dicom import read_series
from data.dicom.hounsfield import padding_to_air
from data.errors import BadVoxels, MissingRescale

HU = np.random.default_rng(5).integers(-1000, 2000, (3, 6, 7)).astype(np.int16)


def unsigned(bits):
    """Store as scanners with `bits` of depth do: unsigned, offset by 1024."""

    def alter(dataset, z):
        dataset.PixelRepresentation, dataset.BitsStored, dataset.HighBit = 0, bits, bits - 1

    return alter


def test_unsigned_pixels_of_twelve_bits_are_read(write_series, tmp_path):
    paths = write_series(tmp_path, HU, intercept=-1024, alter=unsigned(12))
    np.testing.assert_array_equal(read_series(paths).hu_ZYX, HU)


def test_unsigned_pixels_beyond_the_signed_range_are_read(write_series, tmp_path):
    # 65,535 stored with intercept −65,000 is 535 HU: the stored number does not fit int16, its meaning does.
    def alter(dataset, z):
        unsigned(16)(dataset, z)
        dataset.RescaleIntercept = "-65000"
        dataset.PixelData = (HU[z].astype(np.int32).clip(None, 535) + 65_000).astype("<u2").tobytes()

    np.testing.assert_array_equal(read_series(write_series(tmp_path, HU, alter=alter)).hu_ZYX, HU.clip(None, 535))


@pytest.mark.parametrize("is_signed", [False, True])
@pytest.mark.parametrize("bits", [12, 13, 15])
def test_junk_above_the_stored_bits_is_left_out(write_series, tmp_path, bits, is_signed):
    # Retired overlays lie there; some exporters leave whatever was in memory.
    hu = HU.clip(-1000, 1900)

    def alter(dataset, z):
        dataset.PixelRepresentation, dataset.BitsStored, dataset.HighBit = int(is_signed), bits, bits - 1
        junk = np.random.default_rng(z).integers(0, 1 << (16 - bits), hu[z].shape).astype(np.uint16) << bits
        stored = (hu[z] if is_signed else hu[z] + 1024).astype(np.int16).view(np.uint16)
        dataset.RescaleIntercept = "0" if is_signed else "-1024"
        dataset.PixelData = (stored & ((1 << bits) - 1) | junk).astype("<u2").tobytes()

    np.testing.assert_array_equal(read_series(write_series(tmp_path, hu, alter=alter)).hu_ZYX, hu)


def test_eight_bits_a_pixel_are_read(write_series, tmp_path):
    def alter(dataset, z):
        dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 8, 8, 7, 0
        dataset.RescaleSlope, dataset.RescaleIntercept = "10", "-1000"
        dataset.PixelData = np.arange(42, dtype=np.uint8).tobytes()

    expected = np.broadcast_to(np.arange(42).reshape(6, 7) * 10 - 1000, (3, 6, 7))
    np.testing.assert_array_equal(read_series(write_series(tmp_path, HU, alter=alter)).hu_ZYX, expected)


@pytest.mark.parametrize("high_bit, stored", [(15, 12), (11, 17), (11, 0)])
def test_a_layout_of_pixels_that_is_none_is_refused(write_series, tmp_path, high_bit, stored):
    def alter(dataset, z):
        dataset.HighBit, dataset.BitsStored = high_bit, stored

    with pytest.raises(BadVoxels, match="layout of pixels"):
        read_series(write_series(tmp_path, HU, alter=alter))


def test_a_fractional_slope_is_rounded_to_the_nearest_unit(write_series, tmp_path):
    paths = write_series(tmp_path, HU, slope=0.5, intercept=-1000)
    np.testing.assert_array_equal(read_series(paths).hu_ZYX, HU)


def test_numbers_without_a_unit_are_refused(write_series, tmp_path):
    for tag in ("RescaleIntercept", "RescaleSlope"):
        with pytest.raises(MissingRescale, match=rf"no {tag}.*Hounsfield"):
            read_series(write_series(tmp_path / tag, HU, alter=lambda d, z, tag=tag: d.__delattr__(tag)))
    with pytest.raises(BadVoxels, match="RescaleSlope is 0"):
        read_series(write_series(tmp_path / "b", HU, alter=lambda d, z: setattr(d, "RescaleSlope", "0")))


def test_values_beyond_hounsfield_units_are_refused(write_series, tmp_path):
    with pytest.raises(BadVoxels, match="beyond Hounsfield"):
        read_series(write_series(tmp_path, HU, alter=lambda d, z: setattr(d, "RescaleSlope", "1000")))


def test_colour_is_no_ct(write_series, tmp_path):
    def paint(dataset, z):
        dataset.SamplesPerPixel, dataset.PhotometricInterpretation, dataset.PlanarConfiguration = 3, "RGB", 0
        dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 8, 8, 7, 0
        dataset.PixelData = bytes(HU[0].size * 3)

    with pytest.raises(BadVoxels, match="one grey value"):
        read_series(write_series(tmp_path, HU, alter=paint))


@pytest.mark.parametrize("padding_hu", [-2000, -2048, -3024])
@pytest.mark.parametrize("tagged", [True, False])
def test_padding_becomes_air_with_or_without_its_tag(write_series, tmp_path, padding_hu, tagged):
    padded = HU.copy()
    padded[:, :2] = padding_hu

    def alter(dataset, z):
        if tagged:
            dataset.PixelPaddingValue = padding_hu + 1024

    expected = HU.copy()
    expected[:, :2] = -1000
    np.testing.assert_array_equal(read_series(write_series(tmp_path, padded, alter=alter)).hu_ZYX, expected)


def test_a_padding_range_is_replaced_whole(write_series, tmp_path):
    padded = HU.copy()
    padded[:, 0], padded[:, 1], padded[:, 2] = -1010, -1020, -1030

    def alter(dataset, z):
        dataset.PixelPaddingValue, dataset.PixelPaddingRangeLimit = -1010 + 1024, -1020 + 1024

    found = read_series(write_series(tmp_path, padded, alter=alter)).hu_ZYX
    assert (found[:, :2] == -1000).all()
    assert (found[:, 2] == -1030).all()


def test_a_padding_tag_that_names_tissue_is_not_believed(write_series, tmp_path):
    # Exporters write PixelPaddingValue 0 into signed pixels with intercept 0: believed, water would become air.
    watery = HU.copy()
    watery[:, 2:4] = 0
    alter = lambda dataset, z: setattr(dataset, "PixelPaddingValue", 0)  # noqa: E731
    np.testing.assert_array_equal(read_series(write_series(tmp_path, watery, intercept=0, alter=alter)).hu_ZYX, watery)


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, RLELossless])
def test_padding_in_more_bits_than_are_stored_becomes_air(write_series, tmp_path, syntax):
    # −2000 written as 63536 beside 12 unsigned bits: the lower 12 alone would be 2096, bone.
    padded = HU.copy()
    padded[:, :2] = 0

    def alter(dataset, z):
        unsigned(12)(dataset, z)
        stored = (padded[z] + 1024).astype(np.uint16)
        stored[:2] = 63536
        dataset.PixelData = stored.astype("<u2").tobytes()
        dataset.add_new("PixelPaddingValue", "US", 63536)

    padded[:, :2] = -1000
    paths = write_series(tmp_path, padded, alter=alter)
    for path in paths if syntax == RLELossless else ():
        dataset = pydicom.dcmread(path)
        dataset.compress(syntax, generate_instance_uid=False)
        dataset.save_as(path)
    np.testing.assert_array_equal(read_series(paths).hu_ZYX, padded)


def test_padding_that_is_no_hounsfield_unit_becomes_air(write_series, tmp_path):
    padded = HU.copy()
    padded[:, :2] = -1000

    def alter(dataset, z):
        stored = (padded[z] + 1024).astype(np.int16)
        stored[:2] = -32768  # −33,792 HU
        dataset.PixelData = stored.tobytes()
        dataset.add_new("PixelPaddingValue", "SS", -32768)

    volume = read_series(write_series(tmp_path, padded, alter=alter))
    np.testing.assert_array_equal(volume.hu_ZYX, padded)
    assert volume.provenance == ("padding replaced by air",)


def test_noise_in_air_is_no_padding():
    noisy = np.array([-1000, -1024, -1200, -1500], np.int16)
    assert padding_to_air(noisy) is noisy
    assert padding_to_air(np.array([-1501, -1024, 40], np.int16)).tolist() == [-1000, -1024, 40]
