"""When to stop early."""

import pytest

from app.rounds.stopping import Stopping, is_spent


@pytest.mark.parametrize(
    ("rules", "values", "seconds", "reason"),
    [
        ({}, [0.5] * 100, 1e6, None),
        ({"patience": 2}, [0.5, 0.7, 0.6], 0, None),
        ({"patience": 2}, [0.5, 0.7, 0.6, 0.65], 0, "patience"),
        ({"patience": 2}, [0.5, 0.7, 0.6, 0.71], 0, None),
        ({"patience": 2}, [None, None, None], 0, None),
        ({"target": 0.9}, [0.8, 0.9], 0, "target"),
        ({"target": 0.9}, [0.95, 0.8], 0, None),
        ({"seconds": 10}, [], 10, "time"),
        ({"seconds": 10}, [], 9.9, None),
    ],
)
def test_each_rule_stops_when_it_says(rules, values, seconds, reason):
    stop = Stopping(**rules).verdict(values, seconds=seconds)
    assert reason == (stop and stop.reason)


GOOD = {"failed": "", "refused": []}


def failed(*codes):
    return {"failed": "quorum", "refused": [{"hospital": "A", "round": 2, "code": code} for code in codes]}


@pytest.mark.parametrize(
    ("lines", "is_the_end"),
    [
        ([], False),
        ([GOOD], False),
        ([GOOD, failed("budget-cap", "budget-cap")], True),
        ([GOOD, failed("budget-cap", "no-answer")], False),  # who did not answer may have budget
        ([failed("budget-cap")], False),  # nothing was learned: a failure
        ([GOOD, {**GOOD, "refused": failed("budget-cap")["refused"]}], False),  # the others are a quorum
    ],
)
def test_a_budget_is_spent_where_its_want_alone_failed_a_round(lines, is_the_end):
    assert is_spent(lines) is is_the_end
