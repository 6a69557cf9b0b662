"""The engine's settings reach the course, and no hospital."""

import pytest

from app.config import ConfigError, build, compose
from app.fingerprint import binding, config_hash
from app.rounds.engine import Engine
from strategies.course import Course
from strategies.errors import StrategyError
from strategies.gate import Gate
from strategies.types import Plan, ServerState

PLAN = Plan(run="r", leg="", round=0, rounds=1, hospital="", seed=0, fold=-1)


def test_the_defaults_are_the_course_s_own():
    course = Course(PLAN, lambda grid: {}, ServerState(0, {}))
    assert build(compose([])["engine"]).steer(course) == course


def test_every_setting_reaches_the_course():
    course = Engine(max_staleness=2, strikes=5, bench=7, norm_ratio=None).steer(
        Course(PLAN, lambda grid: {}, ServerState(0, {}))
    )
    assert (course.max_staleness, course.strikes, course.bench, course.gate) == (2, 5, 7, Gate(None))


@pytest.mark.parametrize("setting", ["engine.strikes=0", "engine.bench=-1", "engine.max_staleness=-1",
                                     "engine.norm_ratio=0.5"])  # fmt: skip
def test_settings_out_of_range_are_refused_by_name(setting):
    with pytest.raises((ConfigError, StrategyError), match=setting.partition("=")[0].partition(".")[2]):
        build(compose([setting])["engine"])


@pytest.mark.parametrize("setting", ["engine.strikes=5", "schedule=cosine"])
def test_the_server_s_settings_bind_a_resume_but_no_hospital(setting):
    plain, other = compose([]), compose([setting])
    assert config_hash(plain) == config_hash(other)
    assert binding(plain) != binding(other)
