"""The numbers of one scan: what they should be, and what they become when something is wrong with it."""

from dataclasses import replace

import numpy as np
import pytest

from data.statistics.quantities import QUANTITIES
from data.statistics.scan import scan_numbers
from data.volume import CtVolume


@pytest.mark.parametrize("vendor", ["GE", "SIEMENS", "PHILIPS", "TOSHIBA"])
def test_tissue_lung_and_air_are_found_in_every_vendors_chest(chests, vendor):
    numbers = scan_numbers(chests[vendor])
    # Muscle 50 HU, fat −100: a median between them. Lung as drawn: −900 … −830, vessels in it.
    assert -110 < numbers["tissue_hu"] < 60
    assert -920 < numbers["lung_hu"] < -790
    assert 700 < numbers["contrast_hu"] < 1000
    assert 0.3 < numbers["air_share"] < 0.9
    assert numbers["has_lung"] == 1.0
    assert set(numbers) <= set(QUANTITIES)


def test_a_lost_rescale_moves_tissue_and_lung_alike(chests):
    chest = chests["SIEMENS"]
    right, wrong = scan_numbers(chest), scan_numbers(replace(chest, hu_ZYX=(chest.hu_ZYX + 1024).astype(np.int16)))
    for name in ("tissue_hu", "lung_hu", "p10_tissue_hu", "p90_lung_hu"):
        assert wrong[name] - right[name] == pytest.approx(1024, abs=1)
    assert wrong["contrast_hu"] == pytest.approx(right["contrast_hu"], abs=1)


def test_padding_in_the_corners_is_not_looked_at(chests):
    chest = chests["SIEMENS"]
    hu_ZYX = chest.hu_ZYX.copy()
    _, rows, columns = hu_ZYX.shape
    y, x = np.ogrid[:rows, :columns]
    hu_ZYX[:, np.hypot(y - (rows - 1) / 2, x - (columns - 1) / 2) > rows / 2] = 3000
    bright = scan_numbers(replace(chest, hu_ZYX=hu_ZYX))
    assert bright["tissue_hu"] == pytest.approx(scan_numbers(chest)["tissue_hu"], abs=25)


def test_geometry_is_told_in_the_patients_axes():
    # Slices along y: what a coronal acquisition is. 12 slices of 3 mm, rows of 2 mm, columns of 1 mm.
    coronal = CtVolume(
        np.zeros((12, 40, 60), np.int16), (3.0, 2.0, 1.0), (0.0, 0.0, 0.0),
        direction=((1.0, 0.0, 0.0), (0.0, 0.0, 1.0), (0.0, -1.0, 0.0)),
    )  # fmt: skip
    numbers = scan_numbers(coronal)
    assert (numbers["slice_mm"], numbers["length_mm"]) == (2.0, 80.0)
    assert (numbers["pixel_mm"], numbers["field_mm"]) == (3.0, 60.0)


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 5, 4), (40, 2, 2)])
@pytest.mark.parametrize("hu", [-1000, 0, 32767, -32768])
def test_a_scan_in_which_all_is_alike_has_no_lungs_and_no_error(shape, hu):
    numbers = scan_numbers(CtVolume(np.full(shape, hu, np.int16), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0)))
    assert numbers["has_lung"] == 0.0
    assert all(np.isfinite(value) for value in numbers.values())
