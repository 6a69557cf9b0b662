import numpy as np
import pytest

from data.dicom.headers import read_planes
from data.dicom.stacks import parts_of

HU = np.zeros((6, 4, 5), np.int16)
CORONAL = (1, 0, 0, 0, 0, -1)


@pytest.fixture
def parts(tmp_path):
    """Write nothing, read the planes of what was written below tmp_path, and split them."""

    def split():
        planes = [plane for path in sorted(tmp_path.rglob("*.dcm")) for plane in read_planes(path)]
        return [(part.words, len(part.planes)) for part in parts_of(planes)]

    return split


def tagged(**values):
    def alter(dataset, z):
        for name, value in values.items():
            setattr(dataset, name, value(z) if callable(value) else value)
        dataset.SOPInstanceUID = f"{dataset.SOPInstanceUID}.{len(values)}.{hash(str(values)) % 10**6}"

    return alter


def test_one_series_that_is_one_stack_stays_whole(write_series, tmp_path, parts):
    write_series(tmp_path, HU)
    assert parts() == [((), 6)]


def test_a_scout_view_is_set_apart(write_series, tmp_path, parts):
    write_series(tmp_path / "a", HU)
    scout = tagged(ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    write_series(tmp_path / "b", HU[:1], orientation=CORONAL, alter=scout)
    assert parts() == [(("ORIGINAL\\PRIMARY\\AXIAL",), 6), (("ORIGINAL\\PRIMARY\\LOCALIZER",), 1)]


def test_other_orientations_are_other_stacks(write_series, tmp_path, parts):
    write_series(tmp_path / "a", HU)
    write_series(tmp_path / "b", HU[:4], orientation=CORONAL, alter=tagged(InstanceNumber=1))
    assert parts() == [(("axial",), 6), (("coronal",), 4)]


def test_a_wobble_in_the_orientation_does_not_hide_a_slice(write_series, tmp_path, parts):
    def alter(dataset, z):
        if z == 5:
            dataset.ImageOrientationPatient = [1, 0.001, 0, -0.001, 1, 0]

    write_series(tmp_path, HU, alter=alter)
    assert parts() == [((), 6)]


def test_two_phases_in_one_series_are_two_stacks(write_series, tmp_path, parts):
    write_series(tmp_path / "a", HU, alter=tagged(AcquisitionNumber=3))
    write_series(tmp_path / "b", HU[:5], alter=tagged(AcquisitionNumber=4))
    assert parts() == [(("acquisition 3",), 6), (("acquisition 4",), 5)]


def test_two_kernels_in_one_series_are_two_stacks(write_series, tmp_path, parts):
    thin = tagged(ConvolutionKernel="B70f", SliceThickness="1", AcquisitionNumber=1)
    thick = tagged(ConvolutionKernel="B30f", SliceThickness="5", AcquisitionNumber=1)
    write_series(tmp_path / "a", HU, alter=thin)
    write_series(tmp_path / "b", HU[:3], spacing_zyx_mm=(1.7, 1, 1), alter=thick)
    assert parts() == [(("reconstruction B70f 1",), 6), (("reconstruction B30f 5",), 3)]


def test_rotations_that_follow_each_other_are_one_scan(write_series, tmp_path, parts):
    write_series(tmp_path, HU, alter=lambda dataset, z: setattr(dataset, "AcquisitionNumber", 1 + z // 2))
    assert parts() == [((), 6)]


def test_rotations_that_take_turns_are_one_scan(write_series, tmp_path, parts):
    write_series(tmp_path, HU, alter=lambda dataset, z: setattr(dataset, "AcquisitionNumber", 1 + z % 2))
    assert parts() == [((), 6)]


def test_a_gap_between_rotations_is_not_hidden_by_setting_them_apart(write_series, tmp_path, parts):
    write_series(
        tmp_path,
        np.zeros((9, 4, 5), np.int16),
        leave_out=[4],
        alter=lambda dataset, z: setattr(dataset, "AcquisitionNumber", 1 + z // 4),
    )
    assert parts() == [((), 8)]


def test_slices_at_one_position_do_not_become_scans_of_one_slice(write_series, tmp_path, parts):
    for k in range(4):
        write_series(tmp_path / str(k), HU[:1], alter=tagged(AcquisitionNumber=k))
    assert parts() == [((), 4)]


def test_slices_that_watch_the_contrast_arrive_are_set_apart(write_series, tmp_path, parts):
    write_series(tmp_path / "scan", HU, alter=tagged(AcquisitionNumber=9))
    for k in range(3):
        write_series(tmp_path / str(k), HU[:1], origin_xyz_mm=(0, 0, 2), alter=tagged(AcquisitionNumber=k))
    assert [count for _, count in parts()] == [6, 1, 1, 1]


@pytest.mark.parametrize("tag", ["ImageOrientationPatient", "ImageType", "Modality", "ImagePositionPatient"])
def test_a_slice_that_lacks_what_the_others_have_stays_with_them(write_series, tmp_path, parts, tag):
    write_series(tmp_path, HU, alter=lambda dataset, z: delattr(dataset, tag) if z == 5 else None)
    assert parts() == [((), 6)]


def test_a_file_that_was_exported_twice_counts_once(write_series, tmp_path, parts):
    write_series(tmp_path / "a", HU)
    write_series(tmp_path / "again", HU)
    assert parts() == [((), 6)]


def test_an_instance_with_two_contents_is_kept_twice(write_series, tmp_path, parts):
    write_series(tmp_path / "a", HU)
    write_series(tmp_path / "again", HU, origin_xyz_mm=(0, 0, 0.25))
    assert parts() == [((), 12)]
