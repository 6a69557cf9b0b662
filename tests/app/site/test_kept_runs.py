import numpy as np
import pytest

from app.site.kept_runs import BESIDE_S, KeptRuns
from app.site.memory import Memory
from app.site.shield import Declined
from tests.app.site.rounds_paid import answer, rounds_spent

DAY = 86_400.0


class Days:
    """A clock that goes a day further for every run that begins."""

    def __init__(self):
        self.now = 1e9

    def __call__(self):
        return self.now


@pytest.fixture
def days():
    return Days()


@pytest.fixture
def kept(tmp_path, days):
    return KeptRuns(tmp_path, 3, days)


def run(kept, name, *, remembers=True, after=DAY):
    """A run that begins, keeps something, and asks once more."""
    kept.clock.now += after
    kept.begin(name)
    if remembers:
        folder = kept.state_dir / "runs" / name / "all" / "north"
        Memory(folder).keep(1, {"own": {"w": np.ones(3, dtype=np.float32)}})
        kept.begin(name)


def names(kept):
    return sorted(folder.name for folder in (kept.state_dir / "runs").iterdir())


def test_when_a_run_begins_all_but_the_newest_are_removed(kept):
    for name in "abcde":
        run(kept, name)
    assert names(kept) == ["c", "d", "e"]


def test_a_run_that_asked_lately_is_newer_than_one_that_began_later(kept):
    for name in "abca":
        run(kept, name)
    run(kept, "d")
    assert names(kept) == ["a", "c", "d"]


def test_runs_that_may_be_going_on_beside_each_other_stay(kept):
    for name in "abcde":
        run(kept, name, after=BESIDE_S / 10)
    assert names(kept) == list("abcde")
    run(kept, "f", after=DAY)
    assert names(kept) == ["d", "e", "f"]


def test_a_removed_run_that_comes_back_is_told_so_and_not_begun_without_its_memory(kept):
    for name in "abcd":
        run(kept, name)
    with pytest.raises(Declined, match="keep_runs") as declined:
        run(kept, "a")
    assert declined.value.code == "run-forgotten"
    assert names(kept) == ["b", "c", "d"]


def test_a_run_that_had_nothing_to_remember_comes_back_as_it_was(kept):
    for name in "abcd":
        run(kept, name, remembers=False)
    run(kept, "a", remembers=False)
    assert names(kept) == ["a", "c", "d"]


def test_a_removal_that_was_cut_short_goes_on_and_leaves_no_half_of_a_memory_to_go_on_with(kept, monkeypatch):
    for name in "abc":
        run(kept, name)
    with monkeypatch.context() as killed, pytest.raises(KeyboardInterrupt):
        killed.setattr("app.site.kept_runs.shutil.rmtree", lambda _: (_ for _ in ()).throw(KeyboardInterrupt))
        run(kept, "d")
    with pytest.raises(Declined):
        run(kept, "a")
    run(kept, "e")
    assert names(kept) == ["c", "d", "e"]
    assert (kept.state_dir / "removed-runs").read_text().split() == ["a", "b"]


def test_replies_of_earlier_runs_go_and_what_they_cost_stays(budget):
    for number in range(6):
        answer(budget, cap=None, run=f"run-{number}")
    assert len(list((budget.state_dir / "replies").iterdir())) == budget.keep_runs == 3
    assert len(rounds_spent(budget)) == 6
    assert budget.verify() == ()
