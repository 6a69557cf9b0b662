from dataclasses import replace
from itertools import permutations, product

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from data.preprocess.orient import oriented
from data.volume import AXIAL

SIGNED_PERMUTATIONS = [
    tuple(map(tuple, (np.eye(3)[list(axes)] * signs).tolist()))
    for axes in permutations(range(3))
    for signs in product((1.0, -1.0), repeat=3)
]


@pytest.mark.parametrize("direction", SIGNED_PERMUTATIONS)
def test_every_voxel_keeps_its_value_and_its_place(phantom, direction):
    scan = replace(phantom, direction=direction)
    turned = oriented(scan)
    assert turned.direction == AXIAL
    for index in [(0, 0, 0), (3, 5, 7), (11, 19, 23)]:
        there = turned.world_to_voxel(scan.voxel_to_world(index))
        nearest = tuple(int(i) for i in np.rint(there))
        np.testing.assert_allclose(there, nearest, atol=1e-9)
        assert turned.hu_ZYX[nearest] == scan.hu_ZYX[index]


def test_a_scan_that_stands_right_is_left_alone(phantom):
    assert oriented(phantom) is phantom


def test_an_oblique_scan_keeps_its_angles_and_its_places(phantom):
    tilt = Rotation.from_euler("x", 20, degrees=True).as_matrix()
    upside_down = tilt @ np.diag([1.0, -1.0, -1.0])
    scan = replace(phantom, direction=tuple(map(tuple, upside_down.tolist())))
    turned = oriented(scan)
    np.testing.assert_allclose(np.array(turned.direction), tilt, atol=1e-12)
    np.testing.assert_allclose(turned.world_to_voxel(scan.voxel_to_world((3, 5, 7))), (8, 14, 7), atol=1e-9)
    assert turned.hu_ZYX[8, 14, 7] == scan.hu_ZYX[3, 5, 7]


def test_the_turn_is_remembered(phantom):
    assert oriented(replace(phantom, direction=SIGNED_PERMUTATIONS[-1])).provenance == ("turned to the patient's axes",)
