"""A patient: decided by the generator alone, with findings where they are said to be and sized as LUNA16's."""

import numpy as np
import pytest

from data.errors import BadSetting
from data.synthetic.findings import AT_PLEURA, KINDS, MIMICS, NODULES, draw_diameter
from data.synthetic.phantom import Frame, Patient, draw_patient
from data.synthetic.scanners import SCANNERS
from data.synthetic.seeds import derive

SMALL = Frame(matrix=64, field_of_view_mm=100.0, length_mm=48.0, candidates=6)


def _patient(number: int, scanner: str = "GE", frame: Frame = SMALL) -> Patient:
    return draw_patient(SCANNERS[scanner], frame, derive(3, number))


@pytest.fixture(scope="module")
def patients() -> list[Patient]:
    return [_patient(number, scanner) for number in range(4) for scanner in SCANNERS]


def test_same_address_same_patient_and_other_address_other_patient():
    one, again, other = _patient(1), _patient(1), _patient(2)
    np.testing.assert_array_equal(one.volume.hu_ZYX, again.volume.hu_ZYX)
    assert one.candidates == again.candidates
    assert (one.volume.hu_ZYX.shape != other.volume.hu_ZYX.shape) or (one.volume.hu_ZYX != other.volume.hu_ZYX).any()


def test_generators_differ_by_every_part_of_their_address():
    first = [
        derive(*address).random() for address in ((7, "A", 1), (8, "A", 1), (7, "B", 1), (7, "A", 2), (7, "A", 11))
    ]
    assert len(set(first)) == len(first)
    assert derive(7, "A", 1).random() == first[0]


def test_diameters_are_distributed_as_lunas():
    # LUNA16's 1,186 annotations: 3.25 to 32.3 mm, mean 8.31, quartiles 5.1, 6.4 and 9.7.
    rng = np.random.default_rng(0)
    diameters = np.array([draw_diameter(rng) for _ in range(4000)])
    assert diameters.min() > 3.2
    assert diameters.max() < 32.3
    assert diameters.mean() == pytest.approx(8.31, abs=0.3)
    np.testing.assert_allclose(np.quantile(diameters, [0.25, 0.5, 0.75]), [5.1, 6.4, 9.7], atol=0.5)


def test_both_classes_come_at_the_pleura_equally_often():
    shares = [sum(share for kind, share in kinds.items() if kind in AT_PLEURA) for kinds in (NODULES, MIMICS)]
    assert shares[0] == pytest.approx(shares[1])
    assert {KINDS[kind][0] for kind in NODULES} == {1}
    assert {KINDS[kind][0] for kind in MIMICS} == {0}


def test_every_patient_has_nodules_and_mimics_and_patients_vary(patients):
    labels = [[c.label for c in patient.candidates] for patient in patients]
    assert all(set(of_one) == {0, 1} for of_one in labels)
    assert len({(sum(of_one), len(of_one)) for of_one in labels}) > 4
    assert 0.4 < np.mean([label for of_one in labels for label in of_one]) < 0.6


def test_diameters_are_told_of_nodules_only(patients):
    for candidate in (c for patient in patients for c in patient.candidates):
        assert (candidate.diameter_mm is not None) == (candidate.label == 1)


def test_candidates_lie_in_the_scan_on_tissue_denser_than_lung(patients):
    for patient in patients:
        for candidate in patient.candidates:
            z, y, x = np.rint(patient.volume.world_to_voxel(candidate.centre_xyz_mm)).astype(int)
            around = patient.volume.hu_ZYX[z - 1 : z + 2, y - 1 : y + 2, x - 1 : x + 2]
            assert around.shape == (3, 3, 3)
            assert around.max() > -800


def test_findings_keep_apart(patients):
    for patient in patients:
        centres = np.array([c.centre_xyz_mm for c in patient.candidates])
        apart = np.linalg.norm(centres[:, None] - centres, axis=2)[~np.eye(len(centres), dtype=bool)]
        assert apart.min() > 20


def test_lungs_fat_muscle_and_bone_have_their_densities():
    hu = _patient(0, "TOSHIBA", Frame(matrix=96, length_mm=45.0)).volume.hu_ZYX
    share = {
        name: np.mean((hu > low) & (hu < high))
        for name, (low, high) in {
            "lung": (-950, -750),
            "fat": (-160, -40),
            "muscle": (0, 120),
            "bone": (250, 900),
        }.items()
    }
    assert share["lung"] > 0.15
    assert min(share["fat"], share["muscle"]) > 0.02
    assert share["bone"] > 0.005


def test_a_frame_decides_size_and_spacing():
    volume = _patient(4, "SIEMENS").volume
    assert volume.hu_ZYX.shape == (24, 64, 64)  # 48 mm in slices of 2
    assert volume.spacing_zyx_mm[0] == 2.0
    assert 0.94 < volume.spacing_zyx_mm[1] / (100 / 64) < 1.04


@pytest.mark.parametrize("wrong", [{"matrix": 4}, {"candidates": 1}, {"field_of_view_mm": 20.0}, {"length_mm": 400.0}])
def test_frames_out_of_range_are_refused(wrong):
    with pytest.raises(BadSetting):
        Frame(**wrong)
