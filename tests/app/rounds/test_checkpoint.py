"""Server state: newest first, the one before it where the newest is spoiled."""

import numpy as np
import pytest

from app.rounds.checkpoint import BrokenCheckpoint, load_state, save_state
from strategies.types import ServerState


def state(round):
    return ServerState(
        round=round,
        model={"w": np.full((2, 3), round, np.float32), "n": np.array(round)},
        server_opt={"m": {"w": np.ones(2, np.float32)}, "empty": {}},
        control={"w": np.zeros(1, np.float32)},
        facts={"selected": ["A"], "failed": 0},
    )


def same(a, b):
    np.testing.assert_equal((a.round, a.model, dict(a.server_opt), a.control, a.facts),
                            (b.round, b.model, dict(b.server_opt), b.control, b.facts))  # fmt: skip


def test_nothing_is_there_before_the_first_round(tmp_path):
    assert load_state(tmp_path / "checkpoint") is None


def test_the_newest_state_comes_back_whole(tmp_path):
    for round in (1, 2, 3):
        save_state(tmp_path, state(round))
    same(load_state(tmp_path), state(3))


def test_a_spoiled_newest_falls_back_to_the_one_before_and_says_so(tmp_path, caplog):
    save_state(tmp_path, state(1))
    save_state(tmp_path, state(2))
    (tmp_path / "state.safetensors").write_bytes(b"half")
    same(load_state(tmp_path), state(1))
    assert "trying the checkpoint before it" in caplog.text


def test_after_a_fall_back_the_readable_one_stays_until_the_next_is_whole(tmp_path, monkeypatch):
    def no_room(*_):
        raise OSError(28, "No space left on device")

    save_state(tmp_path, state(1))
    save_state(tmp_path, state(2))
    (tmp_path / "state.safetensors").write_bytes(b"half")
    load_state(tmp_path)
    monkeypatch.setattr("app.rounds.checkpoint.write_groups", no_room)
    with pytest.raises(OSError, match="No space"):
        save_state(tmp_path, state(2))
    same(load_state(tmp_path), state(1))


def test_two_spoiled_ones_are_refused(tmp_path):
    save_state(tmp_path, state(1))
    (tmp_path / "state.safetensors").write_bytes(b"half")
    with pytest.raises(BrokenCheckpoint, match="no readable checkpoint"):
        load_state(tmp_path)
