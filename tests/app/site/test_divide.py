"""A hospital's crops by what they are for, with the folds that a data set comes with."""

import numpy as np

from app.config import compose
from app.site.site import divide
from data.dataset import Crops
from data.preprocess import Preprocess
from data.samples import ScanRef


def crops(folds):
    """One crop of each of so many patients, in these folds."""
    refs = tuple(ScanRef(f"1.{i}", f"P{i}", fold=fold) for i, fold in enumerate(folds))
    n = len(refs)
    return Crops(
        Preprocess(1.0, 4, (-1000, 400)),
        refs,
        (),
        np.arange(n),
        np.zeros((n, 3), int),
        np.zeros((n, 3)),
        np.arange(n) % 2,
    )


def test_an_official_fold_is_the_test_and_the_others_are_not():
    settings = compose(["split=official"])["split"]
    assert (settings["folds"], settings["official"]) == (10, True)
    parts = divide(crops([k % 10 for k in range(40)]), settings, fold=3, seed=0)
    assert set(parts.test.patients) == {"P3", "P13", "P23", "P33"}
    others = set(parts.train.patients) | set(parts.validation.patients)
    assert len(others) == 36
    assert others.isdisjoint(parts.test.patients)
