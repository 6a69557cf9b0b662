"""A private run killed with SIGKILL before any of its steps, and resumed: what was paid, what left, what was drawn."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.federation.conftest import SMALL

PRIVATE = ["strategy/privacy=patient", "training.class_balance=false", "strategy.privacy.sample_rate=0.5"]

PARTS = ("killed", "resumed")

STRIDE = int(os.environ.get("FEDVOX_KILL_STRIDE", "9"))
"""Beside these, the first step of each kind. 1: all of them."""


@pytest.fixture(scope="module")
def kills(tmp_path_factory, few_cubes):
    """What the undisturbed run paid, and of each kill what was paid, drawn and sent before and after."""
    folder = tmp_path_factory.mktemp("runs")
    settings = [*SMALL, "model.widths=[4,4,8,8]", "training.batch_size=8", "replicates=2", "rounds=1", *PRIVATE]
    done = subprocess.run(
        [sys.executable, "-m", "tests.federation.private_kill_steps", folder, str(STRIDE), *settings,
         f"source.path={few_cubes}"],
        cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=3600, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    whole, *found = (json.loads(line) for line in done.stdout.splitlines() if line.startswith("{"))
    return whole["whole"], found


def did(kill, what):
    return [line for part in PARTS for line in kill[part]["did"] if line["what"] == what]


@pytest.mark.slow
def test_it_is_killed_before_steps_of_every_kind(kills):
    kinds = {kill["before"].split()[0] for kill in kills[1]}
    assert kinds >= {"fsync", "replace", "ftruncate", "write", "private_fit", "_to_bytes"}


@pytest.mark.slow
def test_whatever_left_was_paid_for_before_and_no_epsilon_is_lost(kills):
    whole, found = kills
    for kill in found:
        left = []
        for part in PARTS:
            left += [line for line in kill[part]["did"] if line["what"] == "left"]
            for line in left:
                assert line["reply"] in kill[part]["ledgers"][line["hospital"]]["kept"], kill["before"]
            assert all(ledger["faults"] == [] for ledger in kill[part]["ledgers"].values()), kill["before"]
        for name, ledger in kill["resumed"]["ledgers"].items():
            before = kill["killed"]["ledgers"].get(name, {"epsilon": 0.0, "reserved": 0})
            assert ledger["reserved"] >= max(before["reserved"], whole[name]["reserved"])
            assert ledger["epsilon"] >= max(before["epsilon"], whole[name]["epsilon"]) - 1e-9, kill["before"]


@pytest.mark.slow
def test_a_question_has_one_answer_whatever_is_killed(kills):
    resent = 0
    for kill in kills[1]:
        answers = {}
        for line in did(kill, "left"):
            answers.setdefault(line["asked"], set()).add(line["reply"])
        assert all(len(replies) == 1 for replies in answers.values()), kill["before"]
        first, second = ({line["asked"] for line in kill[part]["did"] if line["what"] == "left"} for part in PARTS)
        drawn_again = {line["asked"] for line in kill["resumed"]["did"] if line["what"] == "drawn"}
        assert not first & drawn_again, kill["before"]  # what was answered is not computed anew
        resent += len(first & second)
    assert resent > 2  # else the test would prove little


@pytest.mark.slow
def test_no_noise_is_drawn_twice(kills):
    redrawn = 0
    for kill in kills[1]:
        noise = [line["noise"] for line in did(kill, "drawn")]
        assert len(noise) == len(set(noise)) > 0, kill["before"]
        first, second = ({line["asked"] for line in kill[part]["did"] if line["what"] == "drawn"} for part in PARTS)
        redrawn += len(first & second)
    assert redrawn > 0  # what was computed and never kept is computed again, with other noise
