import shutil
from dataclasses import replace

import pytest

from app.site.budget import Budget, BudgetError
from app.site.ledger_file import LedgerFile
from app.site.run_limits import RunLimits
from strategies.privacy.accountant import epsilon
from tests.app.site.rounds_paid import DELTA, EVENTS, answer, refused, reserve, rounds_spent


def test_a_round_is_spent_before_anything_is_computed(budget):
    reservation = reserve(budget)
    assert reservation.reply is None
    assert rounds_spent(budget) == [1]
    assert budget.read().spent(DELTA) > 0


def test_a_retry_resends_the_stored_bytes_and_costs_nothing(budget):
    answer(budget, b"first")
    spent = budget.read().spent(DELTA)
    again = reserve(Budget(budget.state_dir, budget.key_path, "north"))
    assert again.reply == b"first"
    assert budget.read().spent(DELTA) == spent


def test_a_request_that_was_never_answered_takes_its_reservation_up_again(budget):
    first, second = reserve(budget), reserve(budget)
    assert second.number == first.number
    assert second.reply is None
    assert rounds_spent(budget) == [1]


def test_one_reservation_has_one_reply_even_if_two_were_computed(budget):
    slow, quick = reserve(budget), reserve(budget)
    assert budget.commit(quick, b"quick") == b"quick"
    assert budget.commit(slow, b"slow") == b"quick"


def test_a_reply_that_was_kept_but_not_yet_recorded_is_the_one_reply(budget, monkeypatch):
    slow, quick = reserve(budget), reserve(budget)

    def stops(*line):
        raise KeyboardInterrupt

    with monkeypatch.context() as stopped:
        stopped.setattr(LedgerFile, "append", stops)
        with pytest.raises(KeyboardInterrupt):
            budget.commit(quick, b"quick")
    assert reserve(budget).reply == b"quick"
    assert budget.commit(slow, b"slow") == b"quick"


@pytest.mark.parametrize("differs", [{"round": 2}, {"run": "other"}, {"digest": "other model"}])
def test_anything_else_is_charged_and_computed_anew(budget, differs):
    answer(budget)
    fresh = reserve(budget, **differs)
    assert fresh.reply is None
    assert len(rounds_spent(budget)) == 2


def test_a_retry_with_other_costs_is_charged_anew(budget):
    first = reserve(budget)
    second = reserve(budget, events=[replace(EVENTS[0], steps=21)])
    assert second.number != first.number
    assert rounds_spent(budget) == [1, 1]


def test_a_request_whose_reply_is_gone_or_damaged_is_charged_anew(budget):
    answer(budget, b"first")
    (stored,) = (budget.state_dir / "replies").iterdir()
    stored.write_bytes(stored.read_bytes()[:-1] + b"!")
    assert reserve(budget).reply is None
    assert rounds_spent(budget) == [1, 1]


def test_a_second_reply_is_refused_where_the_first_is_gone(budget):
    slow, quick = reserve(budget), reserve(budget)
    budget.commit(quick, b"quick")
    shutil.rmtree(budget.state_dir / "replies")
    refused("budget-answered", budget.commit, slow, b"slow")


def test_only_replies_that_may_still_be_asked_for_are_kept(budget):
    for round in range(1, 6):
        answer(budget, round=round)
        answer(budget, round=round, run="other")
    assert len(list((budget.state_dir / "replies").iterdir())) == 4
    assert reserve(budget, round=4).reply == reserve(budget, round=5).reply == b"noised"


def test_a_reservation_of_another_ledger_cannot_be_committed(budget, tmp_path):
    other = Budget(tmp_path / "s", tmp_path / "k", "north")
    reserve(budget)
    foreign = reserve(other, round=9)
    refused("budget-foreign", budget.commit, foreign, b"reply")


# --- limits of one run ---


def test_a_run_that_asks_for_more_steps_than_the_policy_accepts_is_declined_at_the_round_that_would_pass_them(budget):
    limits = RunLimits(steps=40)
    for round in (1, 2):
        answer(budget, round=round, limits=limits)
    refused("policy-steps-max", reserve, budget, round=3, limits=limits)
    refused("policy-steps-max", reserve, budget, round=2, digest="another model", limits=limits)
    assert rounds_spent(budget) == [1, 2]
    assert reserve(budget, round=2, limits=limits).reply == b"noised"  # what was paid for may be sent again
    answer(budget, run="other", limits=limits)


def test_a_run_may_cost_exactly_the_epsilon_that_was_accepted_and_no_more(budget):
    limits = RunLimits(epsilon=epsilon(EVENTS * 3, DELTA), delta=DELTA)
    for round in (1, 2, 3):
        answer(budget, round=round, limits=limits)
    assert "epsilon_max" in refused("policy-epsilon-max", reserve, budget, round=4, limits=limits)
    assert rounds_spent(budget) == [1, 2, 3]
    answer(budget, run="other", limits=limits)


def test_a_limit_that_was_lowered_stops_an_unanswered_request(budget):
    reserve(budget)
    refused("policy-steps-max", reserve, budget, limits=RunLimits(steps=19))


# --- the cap ---


def test_a_round_that_would_pass_the_cap_is_declined_and_costs_nothing(budget):
    number = 0
    with pytest.raises(BudgetError) as declined:
        for number in range(1, 100):
            answer(budget, cap=3.0, round=number)
    assert declined.value.code == "budget-cap"
    assert "its limit is 3" in str(declined.value)
    assert rounds_spent(budget) == list(range(1, number))
    assert budget.read().spent(DELTA) <= 3.0
    assert reserve(budget, cap=3.0, round=number - 1).reply == b"noised"  # what was paid for may be sent again


def test_another_run_on_the_same_ledger_is_declined_too(budget):
    refused("budget-cap", lambda: [answer(budget, cap=3.0, round=n) for n in range(1, 100)])
    refused("budget-cap", answer, budget, cap=3.0, run="other")


def test_a_planned_run_gets_more_rounds_than_one_chosen_as_it_goes(budget, tmp_path):
    def rounds(book, plan):
        refused("budget-cap", lambda: [reserve(book, cap=3.0, round=n, plan=plan) for n in range(1, 100)])
        return len(rounds_spent(book))

    other = Budget(tmp_path / "s", tmp_path / "k", "north")
    assert rounds(budget, EVENTS * 100) > rounds(other, None)


def test_a_plan_that_comes_after_the_first_reservation_changes_nothing(budget):
    reserve(budget)
    reserve(budget, round=2, plan=EVENTS * 100)
    assert budget.read().plan("run") is None


def test_a_cap_that_was_lowered_stops_an_unanswered_request(budget):
    reserve(budget)
    refused("budget-cap", reserve, budget, cap=0.5)


def test_without_a_cap_everything_is_recorded_and_nothing_declined(budget):
    for number in range(20):
        answer(budget, cap=None, round=number)
    assert len(rounds_spent(budget)) == 20
