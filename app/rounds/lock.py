"""One process at a time writes into a run folder, also after a resume while the killed run is still ending."""

import contextlib
import fcntl
import time
from collections.abc import Iterator
from pathlib import Path

from app.config import ConfigError

LOCK = "lock"
PATIENCE_SECONDS = 60.0
"""Flower takes up to a minute to end the process of a run that was stopped."""


@contextlib.contextmanager
def alone(folder: Path, patience: float = PATIENCE_SECONDS) -> Iterator[None]:
    """Hold a run folder; the kernel lets go of it when this process ends, however it ends.

    Raises:
        ConfigError: another process holds it for longer than `patience` seconds.
    """
    with (folder / LOCK).open("w") as file:
        until = time.monotonic() + patience
        while not _taken(file.fileno()):
            if time.monotonic() > until:
                raise ConfigError(f"another process is running in {folder}; stop it, or name another --run-dir")
            time.sleep(0.2)
        yield


def _taken(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
