import shutil
import stat
from pathlib import Path

import pytest

from app.site.budget import Budget
from tests.app.site.rounds_paid import answer, edit, path_of, refused, reserve


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda lines: [line.replace('"steps":20', '"steps":1') for line in lines], "edited"),
        (lambda lines: [*lines[:2], *lines[3:]], "removed"),
        (lambda lines: [*lines[:2], lines[3], lines[2], *lines[4:]], "moved"),
        (lambda lines: lines[:-1], "cut"),
        (lambda lines: lines[:3], "cut"),
        (lambda lines: [*lines[:-1], lines[-1][:40]], "torn"),
        (lambda lines: [], "cut"),
        (lambda lines: [*lines, "{}\n"], "edited"),
    ],
)
def test_a_touched_ledger_is_named_and_every_run_refused(used, change, code):
    assert used.verify() == ()
    edit(used, change)
    assert code in [fault.code for fault in used.verify()]
    refused("budget-tampered", reserve, used, round=4)
    refused("budget-tampered", used.read)


def test_a_restored_older_copy_is_named(budget):
    answer(budget)
    older = path_of(budget).read_bytes()
    answer(budget, round=2)
    path_of(budget).write_bytes(older)
    assert [fault.code for fault in budget.verify()] == ["cut"]
    refused("budget-tampered", reserve, budget, round=3)


def test_an_older_copy_of_ledger_and_anchor_shows_against_what_the_coordinator_saw(budget, tmp_path):
    answer(budget)
    shutil.copytree(budget.state_dir, tmp_path / "backup")
    shutil.copytree(budget.key_path.parent, tmp_path / "keys-backup")
    seen = reserve(budget, round=2).anchor
    shutil.copytree(tmp_path / "backup", budget.state_dir, dirs_exist_ok=True)
    shutil.copytree(tmp_path / "keys-backup", budget.key_path.parent, dirs_exist_ok=True)
    assert budget.verify() == ()
    assert [fault.code for fault in budget.verify([seen])] == ["cut"]
    reserve(budget, round=2, digest="other")
    assert [fault.code for fault in budget.verify([seen])] == ["spliced"]


def test_beside_the_key_lies_nothing_that_a_shorter_ledger_would_agree_with(used):
    """No earlier anchor, neither in the anchor nor aside: who cuts the ledger has nothing to put in its place."""
    anchor, whole = Path(f"{used.key_path}.anchor"), path_of(used).read_bytes().splitlines(keepends=True)
    assert {path.name for path in used.key_path.parent.iterdir()} == {used.key_path.name, anchor.name}
    assert anchor.read_bytes().count(b"\n") == 1
    for length in range(len(whole)):
        path_of(used).write_bytes(b"".join(whole[:length]))
        assert [fault.code for fault in used.verify()] == ["cut"]


@pytest.mark.parametrize("gone", ["key", "anchor", "ledger"])
def test_a_part_that_is_gone_is_not_a_new_beginning(used, gone):
    path = {"key": used.key_path, "anchor": Path(f"{used.key_path}.anchor"), "ledger": path_of(used)}[gone]
    path.unlink()
    refused("budget-tampered", reserve, used, round=4)


def test_key_and_ledger_gone_together_are_not_a_new_beginning(used):
    used.key_path.unlink()
    path_of(used).unlink()
    refused("budget-tampered", reserve, used, round=4)


def test_an_anchor_that_was_edited_is_refused(used):
    path = Path(f"{used.key_path}.anchor")
    path.write_text(path.read_text().replace('"length": 7', '"length": 1'))
    refused("budget-tampered", reserve, used, round=4)


def test_an_anchor_that_is_no_anchor_is_refused(used):
    path = Path(f"{used.key_path}.anchor")
    path.write_text("[]\n")
    refused("budget-tampered", reserve, used, round=4)
    for left in (used.key_path, path_of(used)):
        left.unlink()
    refused("budget-tampered", reserve, used, round=4)


def test_a_ledger_of_another_hospital_is_refused(used):
    south = Budget(used.state_dir, used.key_path, "south")
    assert "'north'" in refused("budget-foreign", reserve, south)
    assert [fault.code for fault in south.verify()] == ["foreign"]


def test_the_key_is_readable_by_its_owner_only(used):
    assert stat.S_IMODE(used.key_path.stat().st_mode) == 0o600


def test_a_key_that_others_may_read_is_refused_until_they_may_not(used):
    used.key_path.chmod(0o640)
    assert "mode 0640" in refused("budget-key", used.read)
    used.key_path.chmod(0o600)
    assert used.read() is not None


def test_a_file_that_is_no_key_is_refused(used):
    used.key_path.write_bytes(b"short")
    assert "holds 5 bytes, a key has 32" in refused("budget-tampered", reserve, used)


def test_nothing_was_ever_reserved(budget):
    assert budget.read() is None
    assert budget.verify() == ()
