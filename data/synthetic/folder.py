"""Whose folder is it? Rules that keep other people's files, finished hospitals and a second writer safe."""

import contextlib
import errno
import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from data.errors import SourceError

MARKER = "cohort.json"
"""In every hospital's folder: the settings it was written with."""


class FolderTaken(SourceError):
    """The folder holds something else; nothing in it is touched."""

    code = "folder-taken"


class NoRoom(SourceError):
    """The disk is full; what was begun is removed."""

    code = "no-room"


def mark(place: Path, fingerprint: str, settings: Mapping[str, Any]) -> None:
    """Say of a hospital's folder what it was written with."""
    marker = json.dumps({"fingerprint": fingerprint, **settings}, indent=2)
    (place / MARKER).write_text(marker + "\n", encoding="utf-8")


def is_there(place: Path, fingerprint: str) -> bool:
    """Whether the hospital was written before, with these settings.

    Raises:
        FolderTaken: it was written with others.
    """
    if not place.exists():
        return False
    if (_marker(place) or {}).get("fingerprint") != fingerprint:
        raise FolderTaken(
            f"{place} was written with other settings, or by another version (see its {MARKER}); "
            "name another folder, or remove this one with its cache and state"
        )
    return True


def refuse_foreign(folder: Path) -> None:
    """Only hospitals of ours may stand in the folder; looked at before anything is written there.

    Raises:
        FolderTaken: something else does.
    """
    if folder.exists() and not folder.is_dir():
        raise FolderTaken(f"{folder} is a file; name a folder")
    for entry in sorted(folder.iterdir()) if folder.exists() else ():
        if not entry.name.startswith(".") and _marker(entry) is None:
            raise FolderTaken(f"{folder} holds {entry.name!r}, which is no synthetic hospital; name an empty folder")


def _marker(place: Path) -> dict[str, Any] | None:
    try:
        marker = json.loads((place / MARKER).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return marker if isinstance(marker, dict) else None


def remove_partial(folder: Path) -> None:
    """What a process that was stopped has left behind."""
    for partial in folder.glob(".*.partial"):
        shutil.rmtree(partial, ignore_errors=True)


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """One writer a folder; a second one waits, and then finds the hospitals there."""
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


@contextlib.contextmanager
def room(folder: Path) -> Iterator[None]:
    """A full disk, in plain words."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise NoRoom(f"no room in {folder} for the cohort; free some space or ask for fewer patients") from error
        raise
