"""Processes that a coordinator is made of, and their logs: started one by one, stopped together."""

import logging
import subprocess
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from app.deploy.rotated import Rotated
from app.processes import dying_with_parent, stop

OWN_QUESTIONS = ("ControlServicer.List", "/v1/control/list-")
"""In Flower's log: our own questions, which would bury everything else."""

STOP_SECONDS = 5.0
LOG_BYTES, LOGS_KEPT = 10_000_000, 5


@dataclass
class Parts:
    """What was started, and where its words go."""

    cwd: Path
    """Flower's apps run in this folder: it must hold nothing that they could import."""
    env: Mapping[str, str]
    logs: Path
    _processes: list[subprocess.Popen[bytes]] = field(default_factory=list, init=False)
    _books: dict[str, Rotated] = field(default_factory=dict, init=False)
    _readers: list[threading.Thread] = field(default_factory=list, init=False)

    def start(self, command: Sequence[str], log: str) -> subprocess.Popen[bytes]:
        """Start a process; what it writes goes to LOGS/`log`.log, which several may share."""
        process = subprocess.Popen(
            list(command),
            cwd=self.cwd,
            env=dict(self.env),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            preexec_fn=dying_with_parent(),
            start_new_session=True,
        )
        reader = threading.Thread(target=_keep, args=(process, self._book(log)), daemon=True)
        reader.start()
        self._processes.append(process)
        self._readers.append(reader)
        return process

    def stop(self) -> None:
        """End all of them, the youngest first, and close their logs."""
        for process in reversed(self._processes):
            if process.poll() is None:
                stop(process, STOP_SECONDS)
        for reader in self._readers:
            reader.join(STOP_SECONDS)
        for book in self._books.values():
            book.close()

    def _book(self, name: str) -> Rotated:
        """A log that does not grow for ever."""
        if name not in self._books:
            path = self.logs / f"{name}.log"
            self._books[name] = Rotated(path, maxBytes=LOG_BYTES, backupCount=LOGS_KEPT, encoding="utf-8")
        return self._books[name]


def _keep(process: subprocess.Popen[bytes], book: Rotated) -> None:
    """Write a process's output into its log."""
    if process.stdout is None:
        return
    with process.stdout as lines:
        for line in lines:
            text = line.decode(errors="replace").rstrip("\n")
            if not any(question in text for question in OWN_QUESTIONS):
                book.handle(logging.LogRecord("", logging.INFO, "", 0, text, None, None))
