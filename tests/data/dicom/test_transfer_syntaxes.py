"""One real slice in the transfer syntaxes that hospitals use."""

import base64

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.encaps import encapsulate
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import UID

from data.dicom import read_series
from data.dicom.headers import read_planes
from data.dicom.hounsfield import write_hu
from data.dicom.pixels import PixelReader, refuse_unreadable
from data.errors import LossyImage, UndecodableScan

LOSSLESS = ("1.2", "1.2.1", "1.2.1.99", "1.2.2", "1.2.4.57", "1.2.4.70", "1.2.4.80", "1.2.4.90", "1.2.5")
LOSSY = {"1.2.4.50": 64, "1.2.4.81": 1, "1.2.4.91": 5}
"""How far voxels may be from what was measured (HU): two grey values of 32, near-lossless 1, a wavelet's rounding."""


HIGH_THROUGHPUT = base64.b64decode(
    "/0//UQApQAAAAAAQAAAADAAAAAAAAAAAAAAAEAAAAAwAAAAAAAAAAAABDwEB/1AACAACAAAACv9SAAwAAgABAAUEBEAB/1wAEyCIkJCQkJCQkJCQ"
    "kJCQiIiI/2QAFwABT3BlbkpQSCBWZXIgMC4yNi4zLv+QAAoAAAAAAV4AAf+TwAAmdfwFB3QAAMAAEsAAEsAAEoAwAYd0ACgCB3QA8gDHdADAABUw"
    "AATwAATAPkRFEvwAwbQADlH+AGI0AH3RAEI0AMAAFqQAAWrAABaw8jqsm5TtKNjARd7S5Q2/iCAmtwDyrDqXkGTh/zGR5SmABXv8IQEuuABu66df"
    "E8YIiDIn5r546PYCzhDAu5cAwAAvQYAAXfwAAu3AV60MCraaaOBa4EotBdJiyFgp6LXKrgZbrVwhaEUVNFtQxRXBKlYKNthVhWBBK2Qy6IKnATtU"
    "hjg4ggYNEEA4XgCtVwjEWBFT8IrA6kptQStWWhU0keuuKwusLOi6i+DEgkwTfNyVlRVvV5ZwzVCQRAwCKAzQoNAgiCAGCCBoXwBddeWuDHYFg1zZ"
    "xcXVlQx2pStXGHS1q64waFeu2NXVXRncdVdj/g1KdQ23VP1d4RgH/hjApFEB/9k="
)
"""12 × 16 pixels, (37 y + 11 x + 100 · (x·y mod 7)), encoded without loss by OpenJPH 0.26: nothing here encodes it."""


def file_of(real_data, syntax):
    (path,) = (
        path for path in (real_data / "dicom-transfer-syntaxes").glob("CTImage.dcm_*")
        if path.name.endswith(f"_1.2.840.10008.{syntax}.dcm")
    )  # fmt: skip
    return path


def hounsfield(path, *, accept=()):
    (plane,) = read_planes(path)
    refuse_unreadable(plane, accept=frozenset(accept))
    with PixelReader() as reader:
        stored = reader.stored(plane)
        hu = np.empty(stored.shape, np.int16)
        write_hu(stored, plane, hu)
    return hu


@pytest.fixture
def measured(real_data):
    return hounsfield(real_data / "dicom-transfer-syntaxes" / "CTImage.dcm")


@pytest.mark.parametrize("syntax", LOSSLESS)
def test_every_lossless_syntax_holds_the_same_voxels(real_data, measured, syntax):
    np.testing.assert_array_equal(hounsfield(file_of(real_data, syntax)), measured)


@pytest.mark.parametrize("syntax", LOSSY)
def test_a_lossy_syntax_is_refused_unless_it_is_accepted(real_data, measured, syntax):
    with pytest.raises(LossyImage, match=r"accept: \[lossy-image\]"):
        hounsfield(file_of(real_data, syntax))
    apart = np.abs(hounsfield(file_of(real_data, syntax), accept=["lossy-image"]).astype(int) - measured)
    assert 0 < apart.max() <= LOSSY[syntax]


@pytest.mark.parametrize("syntax", ["1.2.4.53", "1.2.4.55"])
def test_a_syntax_that_nothing_decodes_is_an_error_of_its_header(real_data, syntax):
    (plane,) = read_planes(file_of(real_data, syntax))
    with pytest.raises(UndecodableScan, match=r"JPEG .* cannot be decoded here; export it uncompressed"):
        refuse_unreadable(plane, accept=frozenset(["lossy-image"]))


@pytest.mark.parametrize("syntax", ["1.2.4.201", "1.2.4.202"])
def test_high_throughput_jpeg_2000_is_read(write_series, tmp_path, syntax):
    def alter(dataset, z):
        dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 15, 0

    y, x = np.indices((12, 16))
    expected = 37 * y + 11 * x + 100 * ((x * y) % 7) - 1024
    paths = write_series(tmp_path, np.zeros((3, 12, 16), np.int16), alter=alter)
    for path in paths:
        dataset = dcmread(path)
        dataset.PixelData = encapsulate([HIGH_THROUGHPUT])
        dataset["PixelData"].VR, dataset["PixelData"].is_undefined_length = "OB", True
        dataset.file_meta.TransferSyntaxUID = UID(f"1.2.840.10008.{syntax}")
        dataset.save_as(path)
    np.testing.assert_array_equal(read_series(paths).hu_ZYX, np.broadcast_to(expected, (3, 12, 16)))


def test_twelve_bit_jpeg_is_an_error_where_no_decoder_for_it_is_installed(real_data):
    if get_decoder(UID("1.2.840.10008.1.2.4.51")).available_plugins != ("gdcm", "pillow"):
        pytest.skip("pylibjpeg-libjpeg is installed, which decodes it")
    with pytest.raises(UndecodableScan, match="12-bit"):
        hounsfield(file_of(real_data, "1.2.4.51"), accept=["lossy-image"])
