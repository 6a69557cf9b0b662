"""What is told before anything is trained about caps that are too small."""

import re

import pytest

from app.config import compose
from app.privacy.forecast import forecast
from app.privacy.terms import terms_of
from app.site.budget import Budget, BudgetError
from strategies.privacy.ledger import Request

DELTA = 1e-5


@pytest.fixture(scope="module")
def terms():
    return terms_of(compose(["strategy/privacy=patient", "training.class_balance=false", "rounds=2"]))


def told(budget, cap, terms):
    return list(forecast("north", budget.read(), cap, DELTA, terms))


def pay(budget, run, cap, terms, events=None):
    return budget.reserve(Request(run, "", 1, "d"), events or terms.round, cap=cap, delta=DELTA, plan=terms.plan)


@pytest.fixture
def budget(tmp_path):
    return Budget(tmp_path / "state", tmp_path / "north.key", "north")


def smallest(sentence):
    return float(re.search(r"one round fits is ([\d.]+)", sentence)[1])


def test_a_cap_that_lets_a_round_in_is_no_matter(budget, terms):
    assert told(budget, 8.0, terms) == []


def test_the_smallest_cap_that_is_told_lets_one_round_in_and_a_hundredth_less_does_not(tmp_path, budget, terms):
    (sentence,) = told(budget, 0.5, terms)
    assert "cap is ε 0.5" in sentence
    assert "the whole run does 3.20" in sentence
    with pytest.raises(BudgetError, match="its limit is"):
        pay(Budget(tmp_path / "other", tmp_path / "other.key", "north"), "run", smallest(sentence) - 0.01, terms)
    pay(budget, "run", smallest(sentence), terms)


def test_what_earlier_runs_spent_is_in_it(budget, terms):
    pay(budget, "first", 8.0, terms, terms.plan)
    (sentence,) = told(budget, 3.0, terms)
    pay(budget, "second", smallest(sentence), terms)


def test_a_cap_that_lets_rounds_in_but_not_the_whole_run_is_told_with_the_one_that_would_do(budget, terms):
    pay(budget, "first", 8.0, terms, terms.plan)
    (sentence,) = told(budget, 5.0, terms)
    assert "north will decline before the end, the final scoring if not a round: its cap is ε 5" in sentence
    enough = float(re.search(r"the whole run fits is ([\d.]+)", sentence)[1])
    assert told(budget, enough, terms) == []
    assert told(budget, enough - 0.01, terms) != []


def test_a_run_that_may_be_resumed_is_not_counted_twice(budget, terms):
    pay(budget, "first", 8.0, terms)
    assert told(budget, 4.5, terms) == []
