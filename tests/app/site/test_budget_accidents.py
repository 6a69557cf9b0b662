import errno
import fcntl
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from app.site import ledger_file
from app.site.budget import Budget
from strategies.privacy.chain import Anchor
from tests.app.site.rounds_paid import answer, path_of, refused, reserve, rounds_spent

HERE = Path(__file__).parent


def script(*arguments):
    environment = {**os.environ, "PYTHONPATH": str(HERE.parents[2]), "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, str(HERE / "budget_crashes.py"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    return json.loads(done.stdout)


@pytest.mark.slow
@pytest.mark.parametrize("rounds_before", [0, 2])
def test_killed_at_any_step_nothing_is_under_counted_and_a_retry_sends_the_stored_bytes(rounds_before):
    crashes = script("crashes", str(rounds_before))
    assert len(crashes) > 25
    assert [crash["lived"] for crash in crashes].count(True) == 1
    assert any(crash["stored"] and crash["left"] is None for crash in crashes)
    assert any(crash["left"] is not None and not crash["lived"] for crash in crashes)
    for crash in crashes:
        assert crash["faults"] == []
        assert crash["reserved"] == list(range(rounds_before + 1))
        assert crash["again"] == crash["retried"]
        if crash["stored"] or crash["left"] is not None:
            assert crash["retried"] == crash["computed"]
        elif crash["computed"] is not None:
            assert crash["retried"] != crash["computed"]


def test_processes_that_race_for_the_last_of_a_budget_do_not_pass_it():
    result = script("race", "6", "2.0", "other")
    codes = [code for code, _ in result["outcomes"]]
    assert 1 <= codes.count("") < 6
    assert set(codes) == {"", "budget-cap"}
    assert result["spent"] <= 2.0
    assert result["faults"] == 0


def test_processes_that_race_for_one_request_send_the_same_bytes():
    result = script("race", "6", "8.0", "same")
    assert len({reply for _, reply in result["outcomes"]}) == 1
    assert {code for code, _ in result["outcomes"]} == {""}


def test_a_line_that_a_power_cut_tore_anywhere_is_completed_and_counts(budget, monkeypatch):
    answer(budget)
    before = path_of(budget).read_bytes()

    class PowerCutError(BaseException):
        pass

    real = ledger_file._write_from

    def cut_while_appending(path, start, text, **named):
        if path == path_of(budget):
            raise PowerCutError
        real(path, start, text, **named)

    with monkeypatch.context() as power:
        power.setattr(ledger_file, "_write_from", cut_while_appending)
        with pytest.raises(PowerCutError):
            reserve(budget, round=2)
    anchor = Path(f"{budget.key_path}.anchor").read_bytes()
    assert rounds_spent(budget) == [1, 2]
    whole = path_of(budget).read_bytes()
    for length in range(len(before), len(whole) + 1, 7):
        path_of(budget).write_bytes(whole[:length])
        Path(f"{budget.key_path}.anchor").write_bytes(anchor)
        assert budget.verify() == ()
        assert rounds_spent(budget) == [1, 2]
        assert path_of(budget).read_bytes() == whole


@pytest.mark.parametrize("step", range(12))
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS])
def test_a_disk_that_fails_declines_the_round_and_loses_nothing(budget, monkeypatch, step, code):
    answer(budget)
    calls = iter(range(100))
    real = os.fsync

    def failing(handle):
        if next(calls) == step:
            raise OSError(code, os.strerror(code))
        real(handle)

    with monkeypatch.context() as disk:
        disk.setattr(os, "fsync", failing)
        refused("budget-disk", lambda: [answer(budget, round=n) for n in range(2, 9)])
    assert budget.verify() == ()
    spent = rounds_spent(budget)
    assert spent == list(range(1, len(spent) + 1))
    assert reserve(budget, round=1).reply == b"noised"
    assert answer(budget, round=50) == b"noised"


def test_a_disk_that_is_full_while_a_line_is_appended_takes_the_line_back(budget, monkeypatch):
    answer(budget)
    before = path_of(budget).read_bytes()
    real = os.write

    def full(handle, data):
        if os.fstat(handle).st_ino == path_of(budget).stat().st_ino:
            real(handle, data[:20])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(handle, data)

    with monkeypatch.context() as disk:
        disk.setattr(os, "write", full)
        assert "No space left" in refused("budget-disk", reserve, budget, round=2)
    assert path_of(budget).read_bytes() == before
    assert rounds_spent(budget) == [1]


def test_a_place_that_cannot_be_written_declines_the_round(tmp_path):
    (tmp_path / "state").write_text("a file where a folder should be")
    refused("budget-disk", reserve, Budget(tmp_path / "state", tmp_path / "key", "north"))


def test_a_clock_that_goes_back_changes_no_order_and_no_cost(budget):
    times = [2_000_000_000.0]
    timed = replace(budget, clock=lambda: times[-1])
    answer(timed)
    times.append(1_000_000_000.0)
    answer(timed, round=2)
    written = [line.at for line in timed.read().lines]
    assert written == sorted(written)
    assert written[-1] == "2033-05-18T03:33:20+00:00"
    assert timed.verify() == ()
    assert rounds_spent(timed) == [1, 2]


def test_a_ledger_that_another_process_holds_is_waited_for_then_declined(used, monkeypatch):
    monkeypatch.setattr(ledger_file, "LOCK_S", 0.05)
    with (used.state_dir / "ledger.lock").open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        refused("budget-busy", reserve, used, round=4)
    assert reserve(used, round=4).reply is None


def test_every_reply_can_carry_what_the_ledger_was(budget):
    first = reserve(budget)
    budget.commit(first, b"reply")
    second = reserve(budget, round=2)
    assert first.anchor.length == 2
    assert second.anchor.length == 4
    assert budget.verify([first.anchor, second.anchor]) == ()
    assert budget.verify([Anchor(2, second.anchor.head)]) != ()


def test_lines_verified_before_are_looked_up_by_their_bytes_not_believed(budget):
    for round in (1, 2, 3):
        answer(budget, round=round)
    path = budget.state_dir / "ledger.jsonl"
    before = path.stat()
    path.write_bytes(path.read_bytes().replace(b'"steps":20', b'"steps":10', 1))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size
    assert "edited" in refused("budget-tampered", budget.read)
