"""Which models a run trains, on whom, scored by whom."""

import pytest

from app.config import ConfigError, compose
from app.rounds.legs import legs


def of(*overrides):
    return legs(compose(list(overrides)))


def test_a_federated_run_is_one_leg_without_a_name():
    (leg,) = of()
    assert (leg.name, leg.fold, leg.train, leg.score) == ("", -1, ("A", "B", "C"), ("A", "B", "C"))


def test_central_trains_in_one_place_and_all_score():
    (leg,) = of("federation.mode=central")
    assert (leg.train, leg.score) == (("central",), ("A", "B", "C"))


def test_local_only_is_a_leg_a_hospital():
    assert [(leg.name, leg.train) for leg in of("federation.mode=local_only")] == [
        ("A", ("A",)),
        ("B", ("B",)),
        ("C", ("C",)),
    ]


def test_folds_multiply_legs():
    names = [leg.name for leg in of("federation.mode=local_only", "split=folds", "split.folds=2")]
    assert names == ["A-fold0", "A-fold1", "B-fold0", "B-fold1", "C-fold0", "C-fold1"]


def test_one_fold_alone_is_one_leg():
    (leg,) = of("split=folds", "split.fold=3")
    assert (leg.name, leg.fold) == ("", 3)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["federation.mode=centrl"], "one of federated, central, local_only"),
        (["split=folds", "split.fold=5"], "0 … 4"),
        (["+federation.hospitals.central={}"], "pooled data"),
    ],
)
def test_what_cannot_be_is_refused(overrides, said):
    with pytest.raises(ConfigError, match=said):
        of(*overrides)
