"""What a hospital says when it has scored a model is checked, whoever wrote it."""

import numpy as np
import pytest

from app.config import compose
from app.metrics.classification import BINS
from app.rounds.answers import sound
from strategies.types import Evaluation, Refusal

PLAIN = compose(["replicates=3"])
PRIVATE = compose(["strategy/privacy=patient", "training.class_balance=false", "budget.bins=8"])
COUNTS = np.ones((2, BINS), np.int64)
REPLICATES = np.ones((3, 2, BINS), np.int64)
FACTS = {"round": 4, "patients": 9, "test_patients": 3}


def scored(**arrays):
    return Evaluation(FACTS, {"validation": COUNTS, "test": COUNTS, "replicates": REPLICATES, **arrays})


def noised(sd=0.5, **arrays):
    return Evaluation({**FACTS, "noise_sd": sd}, {"validation": np.ones((2, 8)), "test": -np.ones((2, 8)), **arrays})


@pytest.mark.parametrize("reply", [scored(), scored(own_test=COUNTS, own_replicates=REPLICATES, baseline=COUNTS)])
def test_sound_scores_are_handed_on(reply):
    assert sound({"A": reply}, PLAIN) == {"A": reply}


def test_noised_scores_may_be_below_zero():
    reply = noised()
    assert sound({"A": reply}, PRIVATE) == {"A": reply}


def test_validation_alone_is_enough_where_no_more_was_asked():
    reply = Evaluation(FACTS, {"validation": COUNTS})
    assert sound({"A": reply}, PLAIN, split="validation") == {"A": reply}
    assert isinstance(sound({"A": reply}, PLAIN)["A"], Refusal)


@pytest.mark.parametrize(
    "reply",
    [
        scored(test=COUNTS[:, :-1]),
        scored(test=COUNTS.ravel()),
        scored(test=COUNTS.astype(float)),
        scored(validation=-COUNTS),
        scored(replicates=REPLICATES[:2]),
        scored(own_test=COUNTS[:1]),
        Evaluation(FACTS, {}),
        Evaluation({**FACTS, "patients": "many"}, scored().arrays),
        Evaluation({"round": 4, "patients": 9}, scored().arrays),
    ],
)
def test_scores_that_no_figure_can_be_made_of_are_that_hospitals_refusal(reply, caplog):
    replies = sound({"A": scored(), "B": reply}, PLAIN)
    assert isinstance(replies["A"], Evaluation)
    assert replies["B"] == Refusal("B", 4, "malformed")
    assert "hospital B" in caplog.text


@pytest.mark.parametrize(
    "reply",
    [
        scored(),
        noised(sd=0.0),
        noised(sd=float("nan")),
        noised(test=np.ones((2, 9))),
        noised(test=np.full((2, 8), np.nan)),
    ],
)
def test_noised_scores_are_checked_as_such(reply):
    assert sound({"A": reply}, PRIVATE)["A"] == Refusal("A", 4, "malformed")
