"""A hospital's memory: a repeated round starts from the state before it; what the server sums up is of its round."""

import numpy as np
import pytest

from app.site.memory import Memory


@pytest.fixture
def memory(tmp_path):
    return Memory(tmp_path / "run")


def groups(value):
    return {name: {"w": np.full(3, value)} for name in ("personal", "own", "residual", "kept")}


def values(found):
    """Of the hospital's own, and of what the server has the other half of."""
    return tuple(found[name]["w"][0] if name in found else None for name in ("personal", "own", "residual", "kept"))


def test_a_round_sees_what_the_round_before_left(memory):
    assert memory.before(1) == {}
    for round in (1, 2, 3):
        memory.keep(round, groups(round))
    assert [values(memory.before(round, taken=round - 1)) for round in (2, 3, 4)] == [(1,) * 4, (2,) * 4, (3,) * 4]


def test_a_repeated_round_does_not_see_its_own_first_try(memory):
    memory.keep(1, groups(1))
    memory.keep(2, groups(2))
    assert values(memory.before(2, taken=1)) == (1, 1, 1, 1)


def test_after_a_lost_update_the_own_is_the_newest_and_what_counts_is_of_the_round_that_was_taken(memory):
    for round in (1, 2, 3):
        memory.keep(round, groups(round), taken=1)
    assert values(memory.before(4, taken=1)) == (3, 3, 1, 1)
    assert values(memory.before(4, taken=0)) == (3, 3, None, None)


def test_only_a_few_rounds_are_kept_and_the_one_that_was_taken(memory):
    for round in range(1, 9):
        memory.keep(round, groups(round), taken=min(round - 1, 2))
    assert sorted(path.stem[-1] for path in memory.folder.iterdir()) == ["2", "6", "7", "8"]
    memory.keep(9, groups(9), taken=8)
    assert sorted(path.stem[-1] for path in memory.folder.iterdir()) == ["7", "8", "9"]


def test_nothing_to_remember_writes_nothing(memory):
    memory.keep(1, {"residual": {}})
    assert not memory.folder.exists()


def test_an_unreadable_file_is_passed_over_where_an_older_one_will_do(memory, caplog):
    memory.keep(1, groups(1))
    memory.keep(2, groups(2), taken=1)
    (memory.folder / "round-00002.safetensors").write_bytes(b"half")
    assert values(memory.before(3, taken=2)) == (1, 1, None, None)
    assert "using the one before" in caplog.text
    assert "what was kept after round 2 is lost" in caplog.text


def test_a_taken_round_whose_file_is_gone_is_not_replaced_by_another(memory):
    memory.keep(1, groups(1))
    memory.keep(3, groups(3), taken=1)
    assert values(memory.before(4, taken=2)) == (3, 3, None, None)
