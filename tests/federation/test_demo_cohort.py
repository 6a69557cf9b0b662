"""The cohort of `experiment=demo` as it is trained on: written as DICOM and LUNA16, read back, cropped."""

import numpy as np
import pytest

from app.config import compose
from app.prepare import prepare
from app.site.directory import open_site
from tests.data.synthetic.test_fairness import Crops, held_out_auc


@pytest.mark.slow
def test_a_logistic_regression_cannot_do_what_the_demo_s_network_does():
    config = compose(["experiment=demo"])
    assert {name: hospital.patients for name, hospital in prepare(config).items()} == {"A": 72, "B": 54, "C": 54}
    features, labels, patients = [], [], []
    for name in "ABC":
        crops = open_site(config, name).crops(config)
        for i in range(len(crops)):
            x = crops.sample(i).x_CZYX
            features.append((x.mean(), x.max(), x.std()))
        labels += list(crops.labels)
        patients += [f"{name}-{patient}" for patient in crops.patients]
    numbers = np.unique(patients, return_inverse=True)[1]
    assert len(labels) >= 2000
    assert held_out_auc(Crops(np.empty(0), np.array(labels), numbers), np.array(features)) <= 0.75  # measured: 0.49
