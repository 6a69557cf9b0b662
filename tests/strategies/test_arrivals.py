import time
from types import SimpleNamespace

import numpy as np
import pytest
from flwr.supercore.inflatable.inflatable_utils import ObjectPullError, ObjectUnavailableError, pull_objects
from flwr.superlink.grid import http_grid

from strategies import records
from strategies.exchange import arrivals, post
from strategies.exchange.arrivals import given_up, look_often
from strategies.exchange.post import Post
from strategies.records.arrays import names_in, to_record
from strategies.records.packing import PACKED
from strategies.types import Plan
from tests.strategies.fakes import FakeGrid


def missing_for(seconds):
    """What Flower asks for a part with, of a part that comes after so long."""
    comes = time.monotonic() + seconds

    def ask(part):
        if time.monotonic() < comes:
            raise ObjectUnavailableError(part)
        return b"here"

    return ask


def test_a_part_that_comes_a_moment_later_is_there_before_flower_would_look_again():
    module, began = SimpleNamespace(pull=pull_objects), time.monotonic()
    look_often(module, "pull")
    assert module.pull(["part"], missing_for(0.05)) == {"part": b"here"}
    assert time.monotonic() - began < 0.7


def test_a_reply_that_does_not_become_whole_is_given_up_and_flower_is_as_before():
    with given_up(time.monotonic() + 0.2), pytest.raises(ObjectPullError):
        http_grid.pull_objects(["part"], missing_for(60))
    assert http_grid.pull_objects is pull_objects


class Grid:
    """One hospital's answer begins to come and never ends, as when it lost power."""

    def push_messages(self, messages):
        return [message.metadata.message_id for message in messages]

    def pull_messages(self, keys):
        try:
            http_grid.pull_objects(["part"], missing_for(60))
        except ObjectPullError:
            return []


def test_an_upload_that_stopped_does_not_keep_a_round_from_its_deadline(monkeypatch):
    monkeypatch.setattr(post, "COMING_IN_S", 0.1)
    sent, began = Post(Grid(), poll_s=0.01), time.monotonic()
    sent.send({"north": SimpleNamespace(metadata=SimpleNamespace(message_id="m"))}, round=3)
    [answer] = sent.collect(3, deadline_s=0.2)
    assert (answer.hospital, answer.code) == ("north", "timeout")
    assert time.monotonic() - began < 5


class Runtime(Grid):
    """Stands where Flower's own grid stands."""

    __module__ = arrivals.GRID


def test_over_flower_s_runtime_what_hospitals_share_is_packed_once_and_from_hand_to_hand_it_is_not():
    FakeGrid({})
    model = to_record({"w": np.ones(3, np.float32), "b": np.ones(2, np.float32)})
    plan = Plan(run="r", leg="", round=1, rounds=1, seed=0, hospital="", fold=-1)
    for grid, is_packed in ((Runtime(), True), (Grid(), False)):
        asked = {name: records.request(1, "train", plan, model=model, ttl_s=9) for name in ("north", "south")}
        Post(grid, poll_s=0.01).send(asked, round=1)
        one, other = (message.content[records.MODEL] for message in asked.values())
        assert one is other
        assert (PACKED in one) == is_packed
        assert names_in(one) == ["w", "b"]
