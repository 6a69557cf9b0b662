import errno
import fcntl
import json
import os
import shutil
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from app.site import ledger_file
from app.site.budget import Budget, BudgetError
from app.site.ledger_file import LedgerFile
from strategies.privacy.chain import Anchor
from strategies.privacy.events import DpSgd
from strategies.privacy.ledger import Request

EVENTS = [DpSgd(unit="patient", noise_multiplier=2.0, sample_rate=0.1, steps=20, clip=1.0)]
DELTA = 1e-5
HERE = Path(__file__).parent


@pytest.fixture
def budget(tmp_path):
    return Budget(tmp_path / "state", tmp_path / "keys" / "north.key", "north")


def request(round=1, run="run", digest="d"):
    return Request(run, "", round, digest)


def reserve(budget, cap=8.0, events=EVENTS, plan=None, **asked):
    return budget.reserve(request(**asked), events, cap=cap, delta=DELTA, plan=plan)


def answer(budget, reply=b"noised", **asked):
    return budget.commit(reserve(budget, **asked), reply)


def rounds_spent(budget):
    return [entry.round for entry in budget.read().reserved]


def refused(code, work, *args, **named):
    with pytest.raises(BudgetError) as caught:
        work(*args, **named)
    assert caught.value.code == code
    return str(caught.value)


# --- a round ------------------------------------------------------------------------------------------------------


def test_a_round_is_spent_before_anything_is_computed(budget):
    reservation = reserve(budget)
    assert reservation.reply is None
    assert rounds_spent(budget) == [1]
    assert budget.read().spent(DELTA) > 0


def test_a_retry_resends_the_stored_bytes_and_costs_nothing(budget):
    answer(budget, b"first")
    spent = budget.read().spent(DELTA)
    again = reserve(Budget(budget.state_dir, budget.key_path, "north"))
    assert again.reply == b"first"
    assert budget.read().spent(DELTA) == spent


def test_a_request_that_was_never_answered_takes_its_reservation_up_again(budget):
    first, second = reserve(budget), reserve(budget)
    assert second.number == first.number
    assert second.reply is None
    assert rounds_spent(budget) == [1]


def test_one_reservation_has_one_reply_even_if_two_were_computed(budget):
    slow, quick = reserve(budget), reserve(budget)
    assert budget.commit(quick, b"quick") == b"quick"
    assert budget.commit(slow, b"slow") == b"quick"


def test_a_reply_that_was_kept_but_not_yet_recorded_is_the_one_reply(budget, monkeypatch):
    slow, quick = reserve(budget), reserve(budget)

    def stops(*line):
        raise KeyboardInterrupt

    with monkeypatch.context() as stopped:
        stopped.setattr(LedgerFile, "append", stops)
        with pytest.raises(KeyboardInterrupt):
            budget.commit(quick, b"quick")
    assert reserve(budget).reply == b"quick"
    assert budget.commit(slow, b"slow") == b"quick"


@pytest.mark.parametrize("differs", [{"round": 2}, {"run": "other"}, {"digest": "other model"}])
def test_anything_else_is_charged_and_computed_anew(budget, differs):
    answer(budget)
    fresh = reserve(budget, **differs)
    assert fresh.reply is None
    assert len(rounds_spent(budget)) == 2


def test_a_retry_with_other_costs_is_charged_anew(budget):
    first = reserve(budget)
    second = reserve(budget, events=[replace(EVENTS[0], steps=21)])
    assert second.number != first.number
    assert rounds_spent(budget) == [1, 1]


def test_a_request_whose_reply_is_gone_or_damaged_is_charged_anew(budget):
    answer(budget, b"first")
    (stored,) = (budget.state_dir / "replies").iterdir()
    stored.write_bytes(stored.read_bytes()[:-1] + b"!")
    assert reserve(budget).reply is None
    assert rounds_spent(budget) == [1, 1]


def test_a_second_reply_is_refused_where_the_first_is_gone(budget):
    slow, quick = reserve(budget), reserve(budget)
    budget.commit(quick, b"quick")
    shutil.rmtree(budget.state_dir / "replies")
    refused("budget-answered", budget.commit, slow, b"slow")


def test_only_replies_that_may_still_be_asked_for_are_kept(budget):
    for round in range(1, 6):
        answer(budget, round=round)
        answer(budget, round=round, run="other")
    assert len(list((budget.state_dir / "replies").iterdir())) == 4
    assert reserve(budget, round=4).reply == reserve(budget, round=5).reply == b"noised"


def test_a_reservation_of_another_ledger_cannot_be_committed(budget, tmp_path):
    other = Budget(tmp_path / "s", tmp_path / "k", "north")
    reserve(budget)
    foreign = reserve(other, round=9)
    refused("budget-foreign", budget.commit, foreign, b"reply")


# --- the cap ------------------------------------------------------------------------------------------------------


def test_a_round_that_would_pass_the_cap_is_declined_and_costs_nothing(budget):
    number = 0
    with pytest.raises(BudgetError) as declined:
        for number in range(1, 100):
            answer(budget, cap=3.0, round=number)
    assert declined.value.code == "budget-cap"
    assert "its limit is 3" in str(declined.value)
    assert rounds_spent(budget) == list(range(1, number))
    assert budget.read().spent(DELTA) <= 3.0
    assert reserve(budget, cap=3.0, round=number - 1).reply == b"noised"  # what was paid for may be sent again


def test_another_run_on_the_same_ledger_is_declined_too(budget):
    refused("budget-cap", lambda: [answer(budget, cap=3.0, round=n) for n in range(1, 100)])
    refused("budget-cap", answer, budget, cap=3.0, run="other")


def test_a_planned_run_gets_more_rounds_than_one_chosen_as_it_goes(budget, tmp_path):
    def rounds(book, plan):
        refused("budget-cap", lambda: [reserve(book, cap=3.0, round=n, plan=plan) for n in range(1, 100)])
        return len(rounds_spent(book))

    other = Budget(tmp_path / "s", tmp_path / "k", "north")
    assert rounds(budget, EVENTS * 100) > rounds(other, None)


def test_a_plan_that_comes_after_the_first_reservation_changes_nothing(budget):
    reserve(budget)
    reserve(budget, round=2, plan=EVENTS * 100)
    assert budget.read().plan("run") is None


def test_a_cap_that_was_lowered_stops_an_unanswered_request(budget):
    reserve(budget)
    refused("budget-cap", reserve, budget, cap=0.5)


def test_without_a_cap_everything_is_recorded_and_nothing_declined(budget):
    for number in range(20):
        answer(budget, cap=None, round=number)
    assert len(rounds_spent(budget)) == 20


# --- tampering ----------------------------------------------------------------------------------------------------


@pytest.fixture
def used(budget):
    for round in (1, 2, 3):
        answer(budget, round=round)
    return budget


def path_of(budget):
    return budget.state_dir / "ledger.jsonl"


def edit(budget, change):
    lines = path_of(budget).read_text().splitlines(keepends=True)
    path_of(budget).write_text("".join(change(lines)))


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


# --- power, disks, clocks, processes --------------------------------------------------------------------------------


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


@pytest.mark.parametrize("step", range(6))
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


def test_an_anchor_that_grew_long_is_begun_anew(used, monkeypatch):
    monkeypatch.setattr(ledger_file, "LONGEST_ANCHOR", 1000)
    for round in range(4, 10):
        answer(used, round=round)
    assert Path(f"{used.key_path}.anchor").stat().st_size < 5000
    assert rounds_spent(used) == list(range(1, 10))
    assert used.verify() == ()


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
