from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strategies.attendance import Attendance, Seen
from strategies.errors import PartError
from strategies.selection import All, Dynamic, RoundRobin, Uniform
from strategies.types import Report

NAMES = [f"H{i:02d}" for i in range(10)]
PARTS = [All(), Uniform(0.4), Dynamic(), RoundRobin(0.4)]


def select(part, available=NAMES, *, seed=0, round=1, seen=None, quorum=1):
    return part.select(available, seed=seed, round=round, seen=seen or {}, quorum=quorum)


def together(part, rounds, available=NAMES, seed=0):
    """The choices of several rounds, everybody answering."""
    attendance, choices = Attendance(), []
    for round in range(1, rounds + 1):
        chosen = select(part, available, seed=seed, round=round, seen=attendance.seen)
        good = {name: Report(name, round, 1, 1, seconds=1.0) for name in chosen}
        attendance = attendance.after(round, asked=chosen, good=good, strikes=3, bench=3)
        choices.append(chosen)
    return choices


@pytest.mark.parametrize("part", PARTS, ids=lambda p: type(p).__name__)
@given(st.lists(st.sampled_from(NAMES), unique=True).map(sorted), st.integers(1, 12), st.integers(0, 99))
def test_a_choice_is_of_those_there_each_once_and_enough_for_the_quorum(part, available, quorum, seed):
    chosen = select(part, available, seed=seed, quorum=quorum)
    assert set(chosen) <= set(available)
    assert len(set(chosen)) == len(chosen) >= min(quorum, len(available))
    assert list(chosen) == sorted(chosen)


@pytest.mark.parametrize("part", PARTS, ids=lambda p: type(p).__name__)
def test_the_same_round_asks_the_same_hospitals(part):
    assert together(part, 5) == together(part, 5)


def test_another_seed_or_round_draws_others():
    draws = {select(Uniform(0.4), seed=seed, round=round) for seed in range(5) for round in range(5)}
    assert len(draws) > 15


@pytest.mark.parametrize(("fraction", "number"), [(0.3, 3), (0.31, 4), (1.0, 10), (0.01, 1)])
def test_uniform_rounds_up(fraction, number):
    assert len(select(Uniform(fraction))) == number


def test_uniform_draws_everybody_alike():
    # 4 of 10 in each of 1000 rounds: 400 times each, standard deviation 15.5
    times = Counter(name for round in range(1000) for name in select(Uniform(0.4), round=round))
    assert all(abs(times[name] - 400) < 80 for name in NAMES)


@pytest.mark.parametrize("fraction", [0.3, 0.4, 0.5])
def test_round_robin_asks_everybody_equally_often(fraction):
    times = Counter(name for chosen in together(RoundRobin(fraction), 20) for name in chosen)
    assert max(times.values()) - min(times.values()) <= 1
    assert set(times) == set(NAMES)


def test_round_robin_asks_a_newcomer_first():
    seen = {name: Seen(asked=3, last_round=5) for name in NAMES[:-1]}
    assert NAMES[-1] in select(RoundRobin(0.1), seen=seen)


def seen(seconds=None, memory=None, names=NAMES):
    return {
        name: Seen(asked=1, seconds=(seconds or {}).get(name, 10.0), memory_mb=(memory or {}).get(name, 8000.0))
        for name in names
    }


def test_dynamic_asks_most_when_all_are_there_and_equally_quick():
    assert len(select(Dynamic(), seen=seen())) == 8
    assert len(select(Dynamic())) == 8  # nothing known yet


def test_dynamic_asks_fewer_the_slower_the_slowest():
    # median 10, longest 100: 0.3 + 0.5·0.1 = 0.35, of ten: 4
    assert len(select(Dynamic(), seen=seen({"H03": 100.0}))) == 4


def test_dynamic_asks_fewer_the_fewer_are_there():
    # 5 of 10 known: 0.3 + 0.5·0.5 = 0.55 of five: 3
    assert len(select(Dynamic(), NAMES[:5], seen=seen())) == 3


def test_dynamic_asks_hospitals_without_room_last():
    tight = dict.fromkeys(NAMES[:4], 100.0)
    # 6 of 10 have room: 0.3 + 0.5·0.6 = 0.6 of ten: 6, exactly those
    assert select(Dynamic(memory_mb=4000), seen=seen(memory=tight)) == tuple(NAMES[4:])
    # where the quorum asks for more, the others help out
    assert len(select(Dynamic(memory_mb=4000), seen=seen(memory=tight), quorum=8)) == 8


@given(
    st.dictionaries(st.sampled_from(NAMES), st.floats(0, 1e4) | st.just(float("inf")) | st.just(float("nan"))),
    st.dictionaries(st.sampled_from(NAMES), st.floats(0, 1e5)),
)
def test_the_dynamic_fraction_stays_between_its_ends(seconds, memory):
    part = Dynamic(0.3, 0.8, memory_mb=4000)
    known = seen(seconds, memory)
    roomy = sum(row.memory_mb >= 4000 for row in known.values())
    assert 0.3 <= part.fraction(NAMES, roomy, known) <= 0.8 + 1e-9


def test_nobody_there_nobody_asked():
    assert all(select(part, []) == () for part in PARTS)


@pytest.mark.parametrize("make", [lambda: Uniform(0), lambda: Dynamic(0.8, 0.3), lambda: RoundRobin(1.5)])
def test_settings_out_of_range_are_refused(make):
    with pytest.raises(PartError, match="got"):
        make()


def test_attendance_comes_back_from_its_facts():
    attendance = Attendance().after(
        4, asked=["A", "B"], good={"A": Report("A", 4, 1, 1, seconds=2.0, memory_mb=5.0)}, strikes=1, bench=2
    )
    again = Attendance.of({"attendance": attendance.facts()})
    assert again == attendance
    assert again.get("A") == Seen(asked=1, answered=1, holds_model=True, last_round=4, seconds=2.0, memory_mb=5.0)
    assert again.benched(["A", "B"], 6) == ("B",)
    assert again.benched(["A", "B"], 7) == ()
