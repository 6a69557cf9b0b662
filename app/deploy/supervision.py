"""`fedvox site start`: Flower's SuperNode and our worker, side by side, started again when one ends, stopped together.

What they write goes to DIR/logs/hospital.log (5 × 2 MB); the console gets a line for each thing worth knowing.
"""

import contextlib
import datetime
import fcntl
import logging
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType

from app.deploy.errors import DeployError
from app.deploy.hospital import Hospital
from app.deploy.life import Life, Say
from app.deploy.rotated import Rotated

LOG_BYTES, LOG_FILES = 2_000_000, 5
AGAIN_SECONDS = (2.0, 5.0, 10.0, 15.0)
"""Pauses before the next life, growing while lives are short; Flower frees a lost connection after 60 s."""

SHORT_LIFE_SECONDS = 60.0


def supervise(hospital: Hospital, say: Say) -> None:
    """Keep a hospital connected until SIGTERM or Ctrl-C; nothing is left running then.

    Raises:
        DeployError: the kit is missing, or this hospital is connected already.
        ConfigError: its site.yaml cannot be used.
    """
    kit, site = hospital.kit(), hospital.site()
    with _alone(hospital), _book(hospital) as book, _stopping() as stopped:
        hospital.record("started", hospital=site.name, coordinator=kit.address)
        say(f"hospital {site.name}: connecting to the coordinator at {kit.address}; stop with Ctrl-C")
        short = 0
        while not stopped.is_set():
            began = time.monotonic()
            _live(Life(hospital, kit, say, book), stopped, say)
            short = short + 1 if time.monotonic() - began < SHORT_LIFE_SECONDS else 0
            if not stopped.is_set():
                pause = AGAIN_SECONDS[min(short, len(AGAIN_SECONDS) - 1)]
                say(f"starting again in {pause:.0f} s")
                stopped.wait(pause)
        hospital.record("stopped", hospital=site.name)
        say(f"hospital {site.name}: stopped")


def _live(life: Life, stopped: threading.Event, say: Say) -> None:
    """One life; a disk that is full for a while ends it, not this process."""
    try:
        life.live(stopped)
    except OSError as error:
        say(f"cannot go on: {error}; free some space, or see what became of the folder")


@contextlib.contextmanager
def _alone(hospital: Hospital) -> Iterator[None]:
    """One `site start` a folder."""
    hospital.make_places()
    with (hospital.folder / "flower" / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise DeployError(f"{hospital.folder} is started already; stop that one first") from error
        yield


@contextlib.contextmanager
def _book(hospital: Hospital) -> Iterator[logging.Logger]:
    """The rotated log, for the owner's eyes."""
    handler = Rotated(hospital.logs / "hospital.log", maxBytes=LOG_BYTES, backupCount=LOG_FILES - 1, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    book = logging.getLogger(f"{__name__}.book")
    book.setLevel(logging.INFO)
    book.propagate = False
    book.addHandler(handler)
    try:
        yield book
    finally:
        book.removeHandler(handler)
        handler.close()


@contextlib.contextmanager
def _stopping() -> Iterator[threading.Event]:
    """An event that SIGTERM and Ctrl-C set."""
    stopped = threading.Event()

    def stop(number: int, frame: FrameType | None) -> None:
        stopped.set()

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stopped
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def stamped(text: str) -> str:
    """A console line with its time."""
    return f"{datetime.datetime.now().astimezone():%H:%M:%S} {text}"
