"""A file is the old one or the whole new one."""

import errno
import json
import math

import pytest

from app import files


def test_a_full_disk_keeps_the_old_file_and_leaves_nothing_aside(tmp_path):
    path = tmp_path / "state"
    path.write_bytes(b"old")
    with pytest.raises(files.DiskFull, match="no room"), files.replacing(path) as file:
        file.write(b"half of the n")
        raise OSError(errno.ENOSPC, "No space left on device")
    assert path.read_bytes() == b"old"
    assert [path] == list(tmp_path.iterdir())


def test_an_interrupted_write_keeps_the_old_file(tmp_path):
    path = tmp_path / "state"
    path.write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt), files.replacing(path) as file:
        file.write(b"half")
        raise KeyboardInterrupt
    assert path.read_bytes() == b"old"
    assert [path] == list(tmp_path.iterdir())


def test_nan_is_written_as_null(tmp_path):
    files.write_json(tmp_path / "x.json", {"a": math.nan, "b": [1.5, math.inf], "c": {"d": (2, -math.inf)}})
    assert json.loads((tmp_path / "x.json").read_text()) == {"a": None, "b": [1.5, None], "c": {"d": [2, None]}}


def test_journal_lines_are_appended(tmp_path):
    for number in range(3):
        files.append_json(tmp_path / "j.jsonl", {"round": number})
    lines = (tmp_path / "j.jsonl").read_text().splitlines()
    assert [json.loads(line)["round"] for line in lines] == [0, 1, 2]
