import errno
import json
import multiprocessing
import os
import stat

import pytest

from app.deploy import audit_log


def test_a_line_says_who_did_what_and_when(tmp_path):
    audit_log.append(tmp_path / "audit.jsonl", "run-started", run="7", bundle="ab")
    (line,) = audit_log.read(tmp_path / "audit.jsonl")
    assert (line["event"], line["run"], line["bundle"]) == ("run-started", "7", "ab")
    assert line["by"]
    assert line["time"].endswith("+00:00")


def test_only_the_owner_may_read_it(tmp_path):
    audit_log.append(tmp_path / "audit.jsonl", "made")
    assert stat.S_IMODE((tmp_path / "audit.jsonl").stat().st_mode) == 0o600


def test_a_torn_last_line_costs_itself_and_not_the_next(tmp_path):
    path = tmp_path / "audit.jsonl"
    audit_log.append(path, "first")
    with path.open("a") as file:
        file.write('{"event": "torn by a power')
    audit_log.append(path, "after")
    assert [line["event"] for line in audit_log.read(path)] == ["first", "after"]


def test_lines_of_several_processes_stay_whole(tmp_path):
    path = tmp_path / "audit.jsonl"
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=_write, args=(path, name)) for name in "abc"]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    lines = [json.loads(text) for text in path.read_text().splitlines()]
    assert sorted(line["event"] for line in lines) == sorted("abc" * 20)


def test_no_log_yet_has_no_lines(tmp_path):
    assert audit_log.read(tmp_path / "audit.jsonl") == []


def _write(path, name):
    for _ in range(20):
        audit_log.append(path, name, padding="x" * 5000)


def test_a_disk_that_takes_half_a_line_has_not_taken_it(tmp_path, monkeypatch):
    path, room, write = tmp_path / "audit.jsonl", [30], os.write
    audit_log.append(path, "first")

    def nearly_full(handle, content):
        if not room[0]:
            raise OSError(errno.ENOSPC, "No space left on device")
        taken = write(handle, content[: room[0]])
        room[0] -= taken
        return taken

    with monkeypatch.context() as patched:
        patched.setattr(audit_log.os, "write", nearly_full)
        with pytest.raises(OSError, match="No space left"):
            audit_log.append(path, "second")
    audit_log.append(path, "third")
    assert [line["event"] for line in audit_log.read(path)] == ["first", "third"]
