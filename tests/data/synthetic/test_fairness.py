"""Nodules and mimics cannot be told apart without looking at their shape.

Over 2,000 crops of three scanners, each scored by a logistic regression that was fitted on other patients.
"""

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.stats import rankdata

from data.dicom.hounsfield import padding_to_air
from data.preprocess import Preprocess
from data.synthetic.phantom import Frame, draw_patient
from data.synthetic.scanners import SCANNERS
from data.synthetic.seeds import derive

PATIENTS = 275
FRAME = Frame(matrix=80, field_of_view_mm=110.0, length_mm=60.0, candidates=8)
AT_1_MM = Preprocess(spacing_mm=1.0, size=32, window_hu=(-1000.0, 400.0))
TISSUE = (-400 + 1000) / 1400
"""-400 HU in the window: between lung and soft tissue."""


@dataclass(frozen=True)
class Crops:
    x_NZYX: NDArray[np.float32]
    label: NDArray[np.int64]
    patient: NDArray[np.int64]

    def middle(self, size: int) -> NDArray[np.float32]:
        """(N, size³): what crops of this size would hold."""
        low = 16 - size // 2
        return self.x_NZYX[:, low : low + size, low : low + size, low : low + size].reshape(len(self.label), -1)


@pytest.fixture(scope="module")
def crops() -> Crops:
    x, label, owner = [], [], []
    for number in range(PATIENTS):
        scanner = SCANNERS[("GE", "SIEMENS", "PHILIPS")[number % 3]]
        patient = draw_patient(scanner, FRAME, derive(20, number))
        volume = replace(patient.volume, hu_ZYX=padding_to_air(patient.volume.hu_ZYX))
        prepared = AT_1_MM.prepare(volume)
        x += [AT_1_MM.crop(prepared, candidate.centre_xyz_mm) for candidate in patient.candidates]
        label += [candidate.label for candidate in patient.candidates]
        owner += [number] * len(patient.candidates)
    return Crops(np.stack(x), np.array(label), np.array(owner))


def _auc(score: NDArray[np.float64], label: NDArray[np.int64]) -> float:
    """Mann–Whitney: the share of pairs in which the positive scores higher."""
    positives = int(label.sum())
    above = rankdata(score)[label == 1].sum() - positives * (positives + 1) / 2
    return float(above / (positives * (len(label) - positives)))


def held_out_auc(crops: Crops, features: NDArray[np.float64]) -> float:
    """Of logistic regressions fitted on one half of the patients and scored on the other, both ways."""
    odd = crops.patient % 2 == 1
    score = np.empty(len(odd))
    for fitted, scored in ((odd, ~odd), (~odd, odd)):
        mean, std = features[fitted].mean(axis=0), features[fitted].std(axis=0)
        score[scored] = _fit(features[fitted], crops.label[fitted], mean, std)((features[scored] - mean) / std)
    return float(np.mean([_auc(score[half], crops.label[half]) for half in (odd, ~odd)]))


def _fit(features, label, mean, std):
    x = np.column_stack([(features - mean) / std, np.ones(len(features))])

    def loss(weights):
        z = x @ weights
        gradient = x.T @ (1 / (1 + np.exp(-z)) - label) / len(label)
        return np.mean(np.logaddexp(0, z) - label * z), gradient

    weights = minimize(loss, np.zeros(x.shape[1]), jac=True, method="L-BFGS-B").x
    return lambda scaled: scaled @ weights[:-1]


def test_a_logistic_regression_finds_what_there_is_to_find():
    # The yardstick itself: two unit normals two apart give AUC = Φ(2/√2) = 0.921.
    rng = np.random.default_rng(0)
    label = rng.integers(0, 2, 4000)
    features = rng.standard_normal((4000, 3)) + 2 * label[:, None] * [1, 0, 0]
    crops = Crops(np.empty((0,)), label, np.arange(4000))
    assert held_out_auc(crops, features) == pytest.approx(0.921, abs=0.015)


@pytest.mark.slow
@pytest.mark.parametrize("size", [24, 32])
def test_mean_maximum_and_deviation_do_not_give_nodules_away(crops, size):
    assert len(crops.label) >= 2000
    assert 0.45 < crops.label.mean() < 0.55
    x = crops.middle(size)
    assert held_out_auc(crops, np.column_stack([x.mean(axis=1), x.max(axis=1), x.std(axis=1)])) <= 0.75


@pytest.mark.slow
def test_no_simple_count_gives_nodules_away(crops):
    x = crops.middle(32)
    edges = np.linspace(0, 1, 11)
    shares = np.stack([((x > low) & (x <= high)).mean(axis=1) for low, high in pairwise(edges)])
    away = np.linalg.norm(np.indices((32, 32, 32)) - 16, axis=0).ravel()
    shells = [
        x[:, (away >= low) & (away < high)].mean(axis=1) for low, high in ((0, 2), (2, 4), (4, 6), (6, 9), (9, 13))
    ]
    for features in ((x > TISSUE).mean(axis=1)[:, None], np.log(shares.T + 1e-4), np.stack(shells, axis=1)):
        assert held_out_auc(crops, features) <= 0.80
