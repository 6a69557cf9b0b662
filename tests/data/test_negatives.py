"""Places that are no finding: in the lungs, away from findings, by seed."""

import math
from dataclasses import replace

import numpy as np
import pytest

from data.errors import BadSetting
from data.negatives import Negatives
from data.preprocess.orient import oriented
from data.samples import Candidate
from data.statistics.anatomy import anatomy_of
from data.volume import CtVolume
from tests.data.statistics.conftest import drawn as chest


@pytest.fixture(scope="module")
def scan() -> CtVolume:
    return chest("SIEMENS")


@pytest.fixture(scope="module")
def twenty(scan):
    return Negatives(20).draw(scan, [], uid="1.2.3")


def test_they_lie_in_the_lungs(scan, twenty):
    anatomy = anatomy_of(oriented(scan))
    assert len(twenty) == 20
    for place in twenty:
        voxel = np.array(oriented(scan).world_to_voxel(place.centre_xyz_mm))
        block = (voxel + 0.5) * np.array(oriented(scan).spacing_zyx_mm) / np.array(anatomy.spacing_zyx_mm)
        assert anatomy.lung_ZYX[tuple(block.astype(int))]
        assert (place.label, place.diameter_mm) == (0, None)


def test_they_keep_away_from_findings_and_from_each_other(scan, twenty):
    finding = Candidate(twenty[0].centre_xyz_mm, 1, 30.0)
    places = Negatives(20, apart_mm=12.0).draw(scan, [finding], uid="1.2.3")
    assert min(math.dist(place.centre_xyz_mm, finding.centre_xyz_mm) for place in places) >= 12.0 + 15.0
    centres = [place.centre_xyz_mm for place in places]
    assert min(math.dist(a, b) for i, a in enumerate(centres) for b in centres[:i]) >= 12.0


def test_the_same_seed_and_scan_draw_the_same(scan, twenty):
    assert Negatives(20).draw(scan, [], uid="1.2.3") == twenty
    assert Negatives(20, seed=1).draw(scan, [], uid="1.2.3") != twenty
    assert Negatives(20).draw(scan, [], uid="1.2.4") != twenty
    assert Negatives(5).draw(scan, [], uid="1.2.3") == twenty[:5]


def test_lungs_without_room_give_fewer(scan):
    assert 0 < len(Negatives(1000, apart_mm=50.0).draw(scan, [], uid="1")) < 100


def test_a_scan_without_lungs_gives_none(scan):
    water = replace(scan, hu_ZYX=np.zeros_like(scan.hu_ZYX))
    assert Negatives(5).draw(water, [], uid="1") == []


@pytest.mark.parametrize("wrong", [{"count": 0}, {"count": 3, "apart_mm": -1.0}, {"count": 3, "apart_mm": math.nan}])
def test_settings_without_sense_are_refused(wrong):
    with pytest.raises(BadSetting, match="negatives a scan"):
        Negatives(**wrong)
