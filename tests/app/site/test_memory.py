"""A hospital's memory: a repeated round starts from the state before it."""

import numpy as np

from app.site.memory import Memory


def groups(value):
    return {"residual": {"w": np.full(3, value)}}


def value(found):
    return found["residual"]["w"][0] if found else None


def test_a_round_sees_what_the_round_before_left(tmp_path):
    memory = Memory(tmp_path / "run")
    assert value(memory.before(1)) is None
    for round in (1, 2, 3):
        memory.keep(round, groups(round))
    assert [value(memory.before(round)) for round in (2, 3, 4, 9)] == [1, 2, 3, 3]


def test_a_repeated_round_does_not_see_its_own_first_try(tmp_path):
    memory = Memory(tmp_path / "run")
    memory.keep(1, groups(1))
    memory.keep(2, groups(2))
    assert value(memory.before(2)) == 1


def test_only_a_few_rounds_are_kept(tmp_path):
    memory = Memory(tmp_path / "run")
    for round in range(1, 9):
        memory.keep(round, groups(round))
    assert len(list((tmp_path / "run").iterdir())) == 3


def test_nothing_to_remember_writes_nothing(tmp_path):
    Memory(tmp_path / "run").keep(1, {"residual": {}})
    assert not (tmp_path / "run").exists()


def test_an_unreadable_file_is_passed_over(tmp_path, caplog):
    memory = Memory(tmp_path / "run")
    memory.keep(1, groups(1))
    memory.keep(2, groups(2))
    (tmp_path / "run" / "round-00002.safetensors").write_bytes(b"half")
    assert value(memory.before(3)) == 1
    assert "using the one before" in caplog.text
