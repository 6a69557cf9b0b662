"""Whatever ends the waiting for a run ends the run: nobody would follow it any more."""

import errno
from pathlib import Path

import pytest

from app import flower


class Follower:
    """Sees nothing new, or fails."""

    def __init__(self, fault=None):
        self.fault = fault

    def __call__(self):
        if self.fault:
            raise self.fault
        return True

    def silence_s(self):
        return 0.0


@pytest.fixture
def stopped(monkeypatch):
    """Which runs were ended."""
    ended = []
    monkeypatch.setattr(flower, "_submit", lambda *_: "7")
    monkeypatch.setattr(flower, "stop", lambda link, run: ended.append(run))
    return ended


def run(watch, submitted):
    link = flower.Link("hospitals", {}, Path("superlink.log"))
    config = {"deploy": {"roster": "nodes"}}
    flower.run(link, config, overrides=[], run_dir=Path("run"), watch=watch, submitted=submitted)


def raising(fault):
    def note(run):
        raise fault

    return note


FULL = OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("fault", [KeyboardInterrupt(), FULL, flower.FlowerError("lost")], ids=repr)
@pytest.mark.parametrize("where", ["noting its number", "watching it"])
def test_a_run_that_nobody_follows_any_more_is_ended(stopped, fault, where):
    watch, note = (Follower(), raising(fault)) if where == "noting its number" else (Follower(fault), lambda _: None)
    with pytest.raises(type(fault)):
        run(watch, note)
    assert stopped == ["7"]


def test_a_run_that_came_to_its_end_is_left_alone(stopped):
    noted = []
    run(Follower(), noted.append)
    assert (noted, stopped) == (["7"], [])
