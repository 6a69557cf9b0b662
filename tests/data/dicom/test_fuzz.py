"""Damaged files: flipped bits, missing elements, cut ends. What comes out is an error of ours, or the truth.

The truth is what another reader (`independent`) makes of the same bytes. Every file must end in a stack of the survey,
or not begin as DICOM at all. Examples are the same in every run.
"""

import io
import signal
import subprocess
import sys
from contextlib import contextmanager
from functools import cache

import numpy as np
import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    EnhancedCTImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from data.dicom.headers import begins_as_dicom
from data.errors import DataError
from data.sources import DicomFolder
from tests.data.dicom import independent

PLAIN = (
    ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian, RLELossless
)  # fmt: skip
COMPRESSED = (JPEGLSLossless, JPEG2000Lossless)
SLICES, ROWS, COLUMNS = 4, 33, 35
SECONDS = 60
"""For one case; it takes hundredths."""

Z, Y, X = np.indices((SLICES, ROWS, COLUMNS))
HU = (150 * Z + 9 * Y + 11 * X - 990).astype(np.int16)
HU[:, :2, :2] = -2000


def element(dataset, z):
    """A slice as scanners write it, with everything that decides how it is read."""
    dataset.SOPClassUID, dataset.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.2", f"1.2.3.{z + 1}"
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    dataset.SeriesInstanceUID, dataset.StudyInstanceUID, dataset.PatientID = "1.2.3", "1.2", "P1"
    dataset.Modality, dataset.Manufacturer, dataset.SeriesDescription = "CT", "Maker", "Thorax 1.0"
    dataset.AcquisitionNumber, dataset.InstanceNumber, dataset.SliceThickness = 1, z + 1, 1.5
    dataset.ConvolutionKernel, dataset.SpecificCharacterSet = "B60f", "ISO_IR 192"
    dataset.ImagePositionPatient, dataset.PixelSpacing = [-12.5, 30.25, 1.5 * z - 400], [0.75, 0.7]
    dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    dataset.RescaleSlope, dataset.RescaleIntercept = "1", "-1024"
    dataset.Rows, dataset.Columns = ROWS, COLUMNS
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 14, 13, 1
    dataset.add_new("PixelPaddingValue", "SS", -2000 + 1024)
    return dataset


@cache
def files(syntax):
    """Four slices as files."""
    return tuple(
        encoded(with_pixels(element(Dataset(), z), HU[z : z + 1] + 1024, syntax), syntax) for z in range(SLICES)
    )


@cache
def enhanced():
    """The same scan in one file."""
    dataset = element(Dataset(), 0)
    dataset.SOPClassUID, dataset.NumberOfFrames = EnhancedCTImageStorage, SLICES
    del dataset.ImagePositionPatient, dataset.PixelSpacing, dataset.ImageOrientationPatient
    dataset.SharedFunctionalGroupsSequence = Sequence(
        [group(PixelMeasuresSequence={"PixelSpacing": [0.75, 0.7]},
               PlaneOrientationSequence={"ImageOrientationPatient": [1, 0, 0, 0, 1, 0]})]
    )  # fmt: skip
    dataset.PerFrameFunctionalGroupsSequence = Sequence(
        [group(PlanePositionSequence={"ImagePositionPatient": [-12.5, 30.25, 1.5 * z - 400]}) for z in range(SLICES)]
    )
    return (encoded(with_pixels(dataset, HU + 1024, ExplicitVRLittleEndian), ExplicitVRLittleEndian),)


def group(**sequences):
    whole = Dataset()
    for name, values in sequences.items():
        item = Dataset()
        for keyword, value in values.items():
            setattr(item, keyword, value)
        setattr(whole, name, Sequence([item]))
    return whole


def with_pixels(dataset, stored, syntax):
    dataset.PixelData = stored.astype(">i2" if syntax == ExplicitVRBigEndian else "<i2").tobytes()
    dataset["PixelData"].VR = "OW"
    return dataset


def encoded(dataset, syntax):
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    if syntax in (RLELossless, *COMPRESSED):
        dataset.compress(syntax, generate_instance_uid=False)
    dataset.file_meta.TransferSyntaxUID = syntax
    return saved(dataset)


def saved(dataset):
    out = io.BytesIO()
    dataset.save_as(out, enforce_file_format=True)
    return out.getvalue()


# A place in a file: anywhere, or in the header, where more depends on a byte.
places = st.one_of(st.floats(0, 1, exclude_max=True), st.integers(128, 1100))
blows = st.one_of(
    st.tuples(st.just("flip"), places, st.integers(0, 7)),
    st.tuples(st.just("set"), places, st.integers(0, 255)),
    st.tuples(st.just("cut"), places, st.none()),
    st.tuples(st.just("drop"), places, st.integers(1, 16)),
    st.tuples(st.just("insert"), places, st.binary(min_size=1, max_size=8)),
    st.tuples(st.just("delete"), st.floats(0, 1, exclude_max=True), st.none()),
)


def damaged(content, blow):
    kind, place, how = blow
    if kind == "delete":
        return without_an_element(content, place)
    at = min(place, len(content) - 1) if isinstance(place, int) else int(place * len(content))
    if at < 0 or kind == "cut":
        return content[: max(at, 0)]
    replaced = {
        "flip": lambda: bytes([content[at] ^ (1 << how)]) + content[at + 1 :],
        "set": lambda: bytes([how]) + content[at + 1 :],
        "drop": lambda: content[at + how :],
        "insert": lambda: how + content[at:],
    }
    return content[:at] + replaced[kind]()


def without_an_element(content, place):
    try:
        dataset = pydicom.dcmread(io.BytesIO(content))
        tags = sorted(each.tag for each in dataset if each.tag != 0x7FE00010)
        del dataset[tags[int(place * len(tags))]]
        return saved(dataset)
    except Exception:  # noqa: BLE001 (bytes that are damaged already may not be written again; another blow will do)
        return content


@contextmanager
def in_time():
    def too_late(*_):
        raise TimeoutError(f"not done in {SECONDS} s")

    before = signal.signal(signal.SIGALRM, too_late)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def truth(paths, syntax, folder):
    if syntax not in COMPRESSED:
        return independent.read(paths)
    out = folder / "truth.npz"
    subprocess.run([sys.executable, independent.__file__, str(out), *map(str, paths)], check=True, timeout=SECONDS)
    with np.load(out) as stored:
        return tuple(stored[f"arr_{k}"] for k in range(4))


def check(folder, contents, syntax):
    """Read a folder of these files; whatever comes out must be an error of ours, or true."""
    inside = folder / "in"
    inside.mkdir(exist_ok=True)
    paths = [inside / f"{k}.dcm" for k in range(len(contents))]
    for path, content in zip(paths, contents, strict=True):
        path.write_bytes(content)
    source = DicomFolder(str(inside), labels=None, on_problem="skip", accept=["lossy-image"])
    stacks = source.survey()
    named = {file for stack in stacks for file in stack.files}
    assert all(path in named or not begins_as_dicom(path.read_bytes()[:132]) for path in paths)
    faults = [stack.error for stack in stacks if stack.error is not None]
    for stack in stacks:
        if stack.error is None and (fault := compare(source, stack, syntax, folder)):
            faults.append(fault)
    assert all("\n" not in str(fault) for fault in faults)


def compare(source, stack, syntax, folder):
    """None where what was read is the truth; else why nothing could be read."""
    try:
        volume = source.read(stack.ref)
    except DataError as error:
        return error
    hu, positions, orientation, spacing = truth(stack.files, syntax, folder)
    np.testing.assert_array_equal(volume.hu_ZYX, hu)
    assert volume.spacing_zyx_mm[1:] == pytest.approx(tuple(spacing))
    across, down = orientation[:3], orientation[3:]
    for z, position in enumerate(positions):
        assert volume.voxel_to_world((z, 0, 0)) == pytest.approx(tuple(position), abs=0.2)
        corner = position + 34 * spacing[1] * across + 32 * spacing[0] * down
        assert volume.voxel_to_world((z, 32, 34)) == pytest.approx(tuple(corner), abs=0.2)
    return None


def fuzzed(examples):
    return settings(
        max_examples=examples, deadline=None, derandomize=True, database=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )  # fmt: skip


@pytest.mark.parametrize("syntax", [*PLAIN, *COMPRESSED])
def test_undamaged_files_are_read_as_the_other_reader_does(tmp_path, syntax):
    check(tmp_path, files(syntax), syntax)
    source = DicomFolder(str(tmp_path / "in"), labels=None)
    expected = np.where(HU < -1500, -1000, HU)
    np.testing.assert_array_equal(source.read(source.scans()[0]).hu_ZYX, expected)


def attack(tmp_path, syntax, which, hits):
    contents = list(files(syntax)) if syntax != EnhancedCTImageStorage else list(enhanced())
    which %= len(contents)
    for blow in hits:
        contents[which] = damaged(contents[which], blow)
    with in_time():
        check(tmp_path, contents, syntax)


some_blows = st.lists(blows, min_size=1, max_size=3)


@fuzzed(200)
@given(st.sampled_from([*PLAIN, EnhancedCTImageStorage]), st.integers(0, SLICES - 1), some_blows)
def test_a_damaged_file_is_an_error_or_the_truth(tmp_path, syntax, which, hits):
    attack(tmp_path, syntax, which, hits)


@pytest.mark.slow
@fuzzed(1900)
@given(st.sampled_from([*PLAIN, EnhancedCTImageStorage]), st.integers(0, SLICES - 1), some_blows)
def test_many_damaged_files_are_errors_or_the_truth(tmp_path, syntax, which, hits):
    attack(tmp_path, syntax, which, hits)


@pytest.mark.slow
@fuzzed(100)
@given(st.sampled_from(COMPRESSED), st.integers(0, SLICES - 1), some_blows)
def test_a_damaged_compressed_file_is_an_error_or_the_truth(tmp_path, syntax, which, hits):
    attack(tmp_path, syntax, which, hits)
