"""Enhanced multi-frame CT: a whole scan, or two, in one file."""

import numpy as np
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import EnhancedCTImageStorage, ExplicitVRLittleEndian, RLELossless

from data.dicom import read_series
from data.dicom.headers import read_planes
from data.errors import Localiser, MissingPosition, MissingRescale, TruncatedScan, UnreadableScan

HU = np.random.default_rng(3).integers(-1000, 2000, (5, 6, 8)).astype(np.int16)
OBLIQUE = (0.8, 0.6, 0.0, -0.6, 0.8, 0.0)


def group(name, **values):
    """A functional group with one item."""
    item = Dataset()
    for keyword, value in values.items():
        setattr(item, keyword, value)
    holder = Dataset()
    setattr(holder, name, Sequence([item]))
    return holder


def joined(*groups):
    whole = Dataset()
    for one in groups:
        whole.update(one)
    return whole


def frame_groups(z, *, intercept, kind, orientation=OBLIQUE, phase=1):
    position = np.cross(orientation[:3], orientation[3:]) * z * 1.25 + (10, 20, -30)
    return joined(
        group("PlanePositionSequence", ImagePositionPatient=[float(v) for v in position.round(6)]),
        group("PixelValueTransformationSequence", RescaleSlope="1", RescaleIntercept=str(intercept), RescaleType="HU"),
        group("CTImageFrameTypeSequence", FrameType=["ORIGINAL", "PRIMARY", kind, "NONE"]),
        group("FrameContentSequence", FrameAcquisitionNumber=phase, StackID="1", InStackPositionNumber=z + 1),
    )


@pytest.fixture
def write_enhanced(tmp_path):
    def write(frames, pixels, *, alter=lambda dataset: None, compress=None):
        """`frames`: functional groups, `pixels`: stored numbers (frames, Y, X), int16."""
        dataset = Dataset()
        dataset.SOPClassUID, dataset.SOPInstanceUID = EnhancedCTImageStorage, "1.2.3.1"
        dataset.SeriesInstanceUID, dataset.PatientID, dataset.Modality = "1.2.3", "P1", "CT"
        dataset.ImageType = ["ORIGINAL", "PRIMARY", "MIXED", "NONE"]
        dataset.NumberOfFrames, dataset.Rows, dataset.Columns = pixels.shape
        dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
        dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 16, 15, 1
        dataset.SharedFunctionalGroupsSequence = Sequence(
            [
                joined(
                    group("PixelMeasuresSequence", PixelSpacing=[0.7, 0.9], SliceThickness=1.25),
                    group("PlaneOrientationSequence", ImageOrientationPatient=list(OBLIQUE)),
                    group("CTReconstructionSequence", ConvolutionKernel="B60f"),
                )
            ]
        )
        dataset.PerFrameFunctionalGroupsSequence = Sequence(frames)
        dataset.PixelData = pixels.astype("<i2").tobytes()
        alter(dataset)
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        if compress:
            dataset.compress(compress)
        dataset.save_as(tmp_path / "enhanced", enforce_file_format=True)
        return tmp_path / "enhanced"

    return write


def scan(order, *, kind="AXIAL"):
    """Frames in some order, each with an intercept of its own."""
    groups = [frame_groups(z, intercept=-1000 - 10 * z, kind=kind) for z in order]
    return groups, np.stack([HU[z] + 1000 + 10 * z for z in order])


@pytest.mark.parametrize("compress", [None, RLELossless])
def test_frames_are_slices_with_their_own_rescale_and_place(write_enhanced, compress):
    volume = read_series([write_enhanced(*scan([3, 0, 4, 1, 2]), compress=compress)])
    np.testing.assert_array_equal(volume.hu_ZYX, HU)
    assert volume.spacing_zyx_mm == pytest.approx((1.25, 0.7, 0.9))
    # Columns run along (0.8, 0.6, 0), rows along (-0.6, 0.8, 0), slices along z.
    assert volume.voxel_to_world((2, 1, 3)) == pytest.approx(
        (10 + 3 * 0.9 * 0.8 - 0.7 * 0.6, 20 + 3 * 0.9 * 0.6 + 0.7 * 0.8, -30 + 2 * 1.25), abs=1e-6
    )


def test_what_no_group_says_may_stand_at_the_top(write_enhanced):
    groups, pixels = scan(range(5))
    for groups_of_frame in groups:
        del groups_of_frame.PixelValueTransformationSequence

    def alter(dataset):
        dataset.RescaleSlope, dataset.RescaleIntercept = "1", "-1000"

    volume = read_series([write_enhanced(groups, pixels, alter=alter)])
    np.testing.assert_array_equal(volume.hu_ZYX, HU + 10 * np.arange(5)[:, None, None])
    with pytest.raises(MissingRescale, match="enhanced frame 1: no RescaleSlope"):
        read_series([write_enhanced(groups, pixels)])


def test_a_frame_without_a_place_is_named(write_enhanced):
    groups, pixels = scan(range(5))
    del groups[3].PlanePositionSequence
    with pytest.raises(MissingPosition, match="enhanced frame 4: no ImagePositionPatient"):
        read_series([write_enhanced(groups, pixels)])


def test_frame_types_are_looked_at_one_by_one(write_enhanced):
    groups, pixels = scan(range(5))
    groups[0] = frame_groups(0, intercept=-1000, kind="LOCALIZER")
    with pytest.raises(Localiser, match="frame 1"):
        read_series([write_enhanced(groups, pixels)])


@pytest.mark.parametrize("frames", [4, 6, 0])
def test_as_many_groups_as_frames_must_be_there(write_enhanced, frames):
    groups, pixels = scan(range(5))
    path = write_enhanced(groups, pixels, alter=lambda dataset: setattr(dataset, "NumberOfFrames", frames))
    with pytest.raises(UnreadableScan, match=f"{frames} frames, functional groups of 5"):
        read_planes(path)


def test_pixels_that_end_too_soon_are_found_by_the_header(write_enhanced):
    groups, pixels = scan(range(5))
    with pytest.raises(TruncatedScan, match="384 bytes of pixels, 480 are needed"):
        read_series([write_enhanced(groups, pixels, alter=lambda d: setattr(d, "PixelData", d.PixelData[:384]))])
