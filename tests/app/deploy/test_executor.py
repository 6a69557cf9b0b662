from dataclasses import dataclass
from types import SimpleNamespace

import pytest

from app.deploy import executor
from app.deploy.executor import AGAIN_SECONDS, ENDED, STEADY_SECONDS, Executor


@dataclass
class Process:
    code: int | None = None

    def poll(self):
        return self.code


@pytest.fixture
def clock(monkeypatch):
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setattr(executor, "time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock


def test_a_superexec_that_lives_is_left_alone(clock):
    one = Executor(Process)
    before = one.process
    clock.now += 1e6
    assert one.revive() == ""
    assert one.process is before


def test_one_that_ended_is_started_again_after_a_pause(clock):
    one = Executor(Process)
    before, before.code = one.process, 1
    assert one.revive() == ""
    assert one.process is before
    clock.now += AGAIN_SECONDS
    assert one.revive() == ENDED
    assert one.process is not before


def test_while_it_ends_again_and_again_that_is_said_once(clock):
    one, said = Executor(Process), []
    for _ in range(5):
        one.process.code = 1
        clock.now += AGAIN_SECONDS
        said.append(one.revive())
    assert said == [ENDED, "", "", "", ""]
    clock.now += STEADY_SECONDS
    assert one.revive() == ""
    one.process.code = 1
    assert one.revive() == ENDED
