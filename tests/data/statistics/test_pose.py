"""How a patient lies is told from the patient, not from the header."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from data.statistics.anatomy import anatomy_of
from data.statistics.pose import pose_of
from data.volume import CtVolume

Turn = Callable[[CtVolume], CtVolume]


def flipped(axis: int) -> Turn:
    return lambda volume: replace(volume, hu_ZYX=np.ascontiguousarray(np.flip(volume.hu_ZYX, axis)))


def swapped(*axes: int) -> Turn:
    def turn(volume: CtVolume) -> CtVolume:
        spacing = tuple(volume.spacing_zyx_mm[axis] for axis in axes)
        return replace(volume, hu_ZYX=np.ascontiguousarray(volume.hu_ZYX.transpose(axes)), spacing_zyx_mm=spacing)

    return turn


VENDORS = ["GE", "SIEMENS", "PHILIPS", "TOSHIBA"]


@pytest.mark.parametrize("vendor", VENDORS)
def test_a_patient_who_lies_as_the_header_says_has_four_positive_numbers(chests, vendor):
    pose = pose_of(anatomy_of(chests[vendor]))
    assert pose["lateral"] > 0.65
    assert pose["standing"] > 0.3
    assert pose["spine_back"] > 0.1
    assert pose["airway_up"] > 0.05


@pytest.mark.parametrize("vendor", VENDORS)
@pytest.mark.parametrize(
    ("turn", "number", "below"),
    [
        (flipped(1), "spine_back", -0.1),
        (flipped(0), "airway_up", -0.05),
        (swapped(0, 2, 1), "lateral", 0.3),
        (swapped(2, 1, 0), "lateral", 0.3),
        (swapped(1, 0, 2), "standing", -0.3),
        (swapped(1, 2, 0), "lateral", 0.3),
    ],
    ids=["front to back", "head down", "on its side", "across", "tipped", "on its side and tipped"],
)
def test_each_way_to_lie_otherwise_shows_in_its_number(chests, vendor, turn, number, below):
    assert pose_of(anatomy_of(turn(chests[vendor])))[number] < below


def test_one_lung_alone_does_not_tell_how_a_patient_lies(chests):
    chest = chests["SIEMENS"]
    half = replace(chest, hu_ZYX=np.ascontiguousarray(chest.hu_ZYX[:, :, : chest.hu_ZYX.shape[2] // 2 - 4]))
    assert pose_of(anatomy_of(half)) == {}


def test_neither_does_a_lost_rescale_hide_it(chests):
    chest = chests["PHILIPS"]
    shifted = replace(chest, hu_ZYX=(chest.hu_ZYX + 1024).astype(np.int16))
    assert pose_of(anatomy_of(shifted)) == pytest.approx(pose_of(anatomy_of(chest)))


@pytest.mark.slow
def test_the_real_series_lies_as_its_header_says(real_data):
    from data.sources import DicomFolder

    folder = DicomFolder(str(real_data / "lidc-idri-0314" / "dicom"), labels=None)
    volume = folder.read(folder.scans()[0])
    for turn, number, low, high in (
        (lambda v: v, "lateral", 0.7, 1.0), (lambda v: v, "standing", 0.4, 1.0), (lambda v: v, "spine_back", 0.2, 1.0),
        (lambda v: v, "airway_up", 0.2, 1.0), (flipped(1), "spine_back", -1.0, -0.2),
        (flipped(0), "airway_up", -1.0, -0.2), (swapped(0, 2, 1), "lateral", 0.0, 0.25),
        (swapped(1, 0, 2), "standing", -1.0, -0.4),
    ):  # fmt: skip
        assert low < pose_of(anatomy_of(turn(volume)))[number] < high
