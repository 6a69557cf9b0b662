"""An append-only log of facts, one JSON line each: who did what, when. Lines are added, never edited.

Any number of processes may append. The file is the owner's alone (0600): it names runs, bundles and refusals.
"""

import datetime
import fcntl
import getpass
import json
import os
from pathlib import Path
from typing import Any

from app.files import finite


def append(path: Path, event: str, **facts: Any) -> None:
    """Add one line with the time (UTC), the event, the account that did it and the facts; synced before it returns.

    Raises:
        OSError: the line could not be written. What it records must then not be done.
    """
    line = {"time": _now(), "event": event, "by": _account(), **finite(facts)}
    handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        left = _bytes(line, torn=_ends_torn(path))
        while left:  # a disk that is nearly full takes the beginning of a line, and refuses the rest
            left = left[os.write(handle, left) :]
        os.fsync(handle)
    finally:
        os.close(handle)


def read(path: Path) -> list[dict[str, Any]]:
    """All whole lines, oldest first. A line that a power cut tore is left out; an absent file has none."""
    if not path.exists():
        return []
    found = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            found.append(dict(json.loads(line)))
        except (json.JSONDecodeError, TypeError, ValueError):
            continue
    return found


def _bytes(line: dict[str, Any], *, torn: bool) -> bytes:
    return ("\n" * torn + json.dumps(line) + "\n").encode()


def _ends_torn(path: Path) -> bool:
    """Whether the last line has no end, so that the next one must not be glued to it."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        if size == 0:
            return False
        file.seek(size - 1)
        return file.read(1) != b"\n"


def _now() -> str:
    return datetime.datetime.now(tz=datetime.UTC).isoformat(timespec="seconds")


def _account() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        # A container's user may have no name.
        return str(os.getuid())
