"""Files that are either the old one or the whole new one, also after a power cut or on a full disk."""

import contextlib
import errno
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO


class DiskFull(OSError):
    """No room for a file; whatever was there before is untouched."""


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Write aside, sync, rename. An error on the way removes what was written aside and keeps the old file.

    Raises:
        DiskFull: no room left; names the file.
    """
    aside = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        with aside.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    except OSError as error:
        raise _named(error, path, "the file that was there is kept") from error
    finally:
        with contextlib.suppress(OSError):
            aside.unlink(missing_ok=True)
    sync_folder(path.parent)


def write_text(path: Path, text: str) -> None:
    """Replace a text file."""
    with replacing(path) as file:
        file.write(text.encode())


def write_json(path: Path, value: Any) -> None:
    """Replace a JSON file; indented, keys as given. NaN is written as null."""
    write_text(path, json.dumps(finite(value), indent=2) + "\n")


def append_json(path: Path, facts: dict[str, Any]) -> None:
    """Append one line to a journal, and sync it.

    Raises:
        DiskFull: no room left; names the file.
    """
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(finite(facts)) + "\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise _named(error, path, "a line half written is left out when it is read") from error


def _named(error: OSError, path: Path, state: str) -> OSError:
    """A full disk as an error that says what to do."""
    if error.errno not in (errno.ENOSPC, errno.EDQUOT):
        return error
    return DiskFull(error.errno, f"no room to write {path}; {state}. Free some space, then resume")


def finite(value: Any) -> Any:
    """NaN and infinities as None, at any depth: JSON has no word for them."""
    if isinstance(value, float):
        return value if value - value == 0.0 else None
    if isinstance(value, dict):
        return {key: finite(child) for key, child in value.items()}
    if isinstance(value, list | tuple):
        return [finite(child) for child in value]
    return value


def sync_folder(folder: Path) -> None:
    """Make renames inside a folder last through a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
