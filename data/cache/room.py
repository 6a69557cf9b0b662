"""A limit on what a cache holds: the entries that were not used for longest give way, whole.

When an entry was last used is told by its seal, to the hour (`data.cache.entry`). Entries that any process has mapped
are locked by it and stay.
"""

import fcntl
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from data.errors import CacheFull

ABANDONED_S = 3600
"""A file aside that was not written to for so long belongs to a process that died."""


@contextmanager
def room_for(needed: int, folder: Path, *, limit: int) -> Iterator[None]:
    """Inside, `needed` bytes may be written: entries are thrown out until they fit below `limit`.

    One process at a time is inside, so that two together do not pass the limit.

    Raises:
        CacheFull: what is in use leaves no room.
        OSError
    """
    with (folder / "room.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _sweep(folder)
        held = _shrink(sorted(_entries(folder, "scan")), to=limit - needed)
        if held + needed > limit:
            raise CacheFull(
                f"{folder}: {held / 1e9:.3g} GB are in use, {needed / 1e6:.1f} MB more are needed, its limit is "
                f"{limit / 1e9:g} GB; make cache_gb larger, or leave it out"
            )
        yield


def _shrink(found: Sequence[tuple[float, int, Path]], *, to: int) -> int:
    """Throw out the first ones until the rest has at most so many bytes, if it can have; returns how many it has."""
    held = sum(size for _, size, _ in found)
    for _, size, entry in found:
        if held <= to:
            break
        if _removed(entry):
            held -= size
    return held


def _entries(folder: Path, suffix: str) -> Iterator[tuple[float, int, Path]]:
    """Time of last use, bytes, file."""
    for entry in folder.glob(f"??/*.{suffix}"):
        try:
            stat = entry.stat()
        except FileNotFoundError:  # renamed or thrown out meanwhile
            continue
        yield stat.st_mtime, stat.st_size, entry


def _removed(entry: Path) -> bool:
    """Whether it could go: nobody has it mapped."""
    try:
        with entry.open("r+b") as file:  # a network's disk gives this lock to writers alone
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            entry.unlink()
    except FileNotFoundError:
        return True
    except BlockingIOError:
        return False
    return True


def _sweep(folder: Path) -> None:
    """Remove what processes that died left aside."""
    for changed, _, aside in _entries(folder, "tmp"):
        if time.time() - changed > ABANDONED_S:
            aside.unlink(missing_ok=True)
