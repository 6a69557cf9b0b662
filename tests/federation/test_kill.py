"""A run killed with SIGKILL at a step on disk, and resumed, ends where the undisturbed run ends, bit by bit."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.federation.conftest import SMALL

STATE_EVERYWHERE = [
    "strategy=scaffold", "strategy/server_opt=adam", "strategy/wire=topk", "strategy/selection=uniform", "quorum=1",
]  # fmt: skip
"""Moments, a control variate and a draw of hospitals at the server; control variates and what the codec lost there."""

STRIDE = int(os.environ.get("FEDVOX_KILL_STRIDE", "3"))
"""Beside these, the first step of each kind. 1: all of them."""


@pytest.mark.slow
def test_a_run_killed_at_any_step_resumes_to_the_same_end(tmp_path, few_cubes):
    (tmp_path / "runs").mkdir()
    settings = [*SMALL, "model.widths=[4,4,8,8]", "training.batch_size=8", "replicates=2", *STATE_EVERYWHERE]
    done = subprocess.run(
        [sys.executable, "-m", "tests.federation.kill_steps", tmp_path / "runs", str(STRIDE), *settings,
         f"source.path={few_cubes}"],
        cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=1800, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    kills = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert len(kills) > 20
    assert {kind.split()[0] for kind in (kill["before"] for kill in kills)} >= {"fsync", "replace", "unlink"}
    assert [kill for kill in kills if kill["differs"]] == []


def test_a_folder_left_half_made_is_made_again(overrides, tmp_path, monkeypatch):
    from app.commands import launch
    from app.rounds import folder

    def die(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(folder, "write_text", die)
    with pytest.raises(KeyboardInterrupt):
        launch.fresh(tmp_path / "run", overrides)
    monkeypatch.undo()
    monkeypatch.setattr(folder, "write_json", die)
    with pytest.raises(KeyboardInterrupt):
        launch.fresh(tmp_path / "run", overrides)
    monkeypatch.undo()
    assert (tmp_path / "run" / "config.yaml").exists()
    assert not (tmp_path / "run" / "overrides.txt").exists()
    assert launch.fresh(tmp_path / "run", overrides).folder.overrides()[: len(overrides)] == overrides
