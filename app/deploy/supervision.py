"""`fedvox site start`: Flower's SuperNode and our worker, side by side, started again when one ends, stopped together.

Both have the hospital's folder as home, an environment of their own and no port but one on loopback, guarded by a
secret that is drawn anew for each life. What they write goes to DIR/logs/hospital.log (5 × 2 MB); the console gets a
line for each thing worth knowing.
"""

import contextlib
import datetime
import fcntl
import logging
import secrets
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from logging.handlers import RotatingFileHandler
from pathlib import Path
from subprocess import Popen
from types import FrameType
from typing import IO

from app.deploy import children
from app.deploy.certificates import write_private
from app.deploy.errors import DeployError
from app.deploy.hospital import Hospital
from app.deploy.voices import heard

Say = Callable[[str], None]

FLOWER = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_PRIVATE_MAX_CONCURRENT_OBJ_PULLS": "8",
    "FLWR_PRIVATE_MAX_CONCURRENT_OBJ_PUSHES": "8",
}
"""Flower asks nobody else, and fetches eight parts of a model at once (2 by itself): each costs a round trip."""

LOG_BYTES, LOG_FILES = 2_000_000, 5
STOP_SECONDS = 10.0
"""How long processes get to end by themselves; a SuperNode says good-bye to the coordinator meanwhile."""

AGAIN_SECONDS = (2.0, 5.0, 10.0, 15.0)
"""Pauses before the next life, growing while lives are short; Flower frees a lost connection after 60 s."""

SHORT_LIFE_SECONDS = 60.0
LOOK_SECONDS = 0.2


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
            _Life(hospital, kit.address, site.name, say, book).live(stopped)
            short = short + 1 if time.monotonic() - began < SHORT_LIFE_SECONDS else 0
            if not stopped.is_set():
                pause = AGAIN_SECONDS[min(short, len(AGAIN_SECONDS) - 1)]
                say(f"starting again in {pause:.0f} s")
                stopped.wait(pause)
        hospital.record("stopped", hospital=site.name)
        say(f"hospital {site.name}: stopped")


@dataclass
class _Life:
    """One SuperNode and one worker, until either ends."""

    hospital: Hospital
    address: str
    name: str
    say: Say
    book: logging.Logger
    readers: list[threading.Thread] = field(default_factory=list)

    def live(self, stopped: threading.Event) -> None:
        port, secret = _free_port(), self.hospital.folder / "flower" / "secret"
        write_private(secret, secrets.token_hex(32).encode())
        worker = self._start("worker", [*_python("resident"), str(self.hospital.folder), *self._loopback(port, secret)])
        try:
            node = self._start("node", [*_python("node"), *self._node(port, secret)])
            try:
                while not stopped.wait(LOOK_SECONDS) and node.poll() is None and worker.poll() is None:
                    pass
                self._mourn(stopped, node, worker)
            finally:
                children.stop(node, STOP_SECONDS)
        finally:
            children.stop(worker, STOP_SECONDS)
            secret.unlink(missing_ok=True)
            for reader in self.readers:
                reader.join(timeout=1)

    def _node(self, port: int, secret: Path) -> list[str]:
        return [
            "--superlink", self.address,
            "--root-certificates", str(self.hospital.authority),
            "--auth-supernode-private-key", str(self.hospital.key),
            "--host", "127.0.0.1", "--port", str(port),
            "--isolation", "process",
            "--superexec-auth-secret-file", str(secret),
            "--node-config", f'hospital="{self.name}"',
        ]  # fmt: skip

    def _loopback(self, port: int, secret: Path) -> list[str]:
        return ["--address", f"127.0.0.1:{port}", "--secret", str(secret)]

    def _start(self, who: str, command: list[str]) -> Popen[str]:
        home = self.hospital.folder / "flower"
        env = children.environment(home, FLWR_HOME=str(home), FLWR_TELEMETRY_ENABLED="0", FLWR_DISABLE_UPDATE_CHECK="1")
        process = children.start(command, env=env, cwd=self.hospital.folder / "work")
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                said = self.say if who == "worker" and stream is process.stdout else None
                self._listen(who, stream, said)
        return process

    def _listen(self, who: str, stream: IO[str], said: Say | None) -> None:
        def read() -> None:
            for line in stream:
                text = line.rstrip()
                self.book.info("%s: %s", who, text)
                if said is not None:
                    said(text)
                elif who == "node" and (words := heard(text)):
                    self.say(words)

        thread = threading.Thread(target=read, daemon=True)
        thread.start()
        self.readers.append(thread)

    def _mourn(self, stopped: threading.Event, node: Popen[str], worker: Popen[str]) -> None:
        if stopped.is_set():
            return
        who, code = ("the connection", node.poll()) if node.poll() is not None else ("the worker", worker.poll())
        self.hospital.record("ended", what=who, code=code)
        self.say(f"{who} ended with {code}; its words are in {self.hospital.logs / 'hospital.log'}")


def _python(module: str) -> list[str]:
    return [sys.executable, "-m", f"app.deploy.{module}"]


@contextlib.contextmanager
def _alone(hospital: Hospital) -> Iterator[None]:
    """One `site start` a folder."""
    with (hospital.folder / "flower" / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise DeployError(f"{hospital.folder} is started already; stop that one first") from error
        yield


@contextlib.contextmanager
def _book(hospital: Hospital) -> Iterator[logging.Logger]:
    """The rotated log, for the owner's eyes."""
    hospital.logs.mkdir(exist_ok=True, mode=0o700)
    handler = RotatingFileHandler(
        hospital.logs / "hospital.log", maxBytes=LOG_BYTES, backupCount=LOG_FILES - 1, encoding="utf-8"
    )
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


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def stamped(text: str) -> str:
    """A console line with its time."""
    return f"{datetime.datetime.now().astimezone():%H:%M:%S} {text}"
