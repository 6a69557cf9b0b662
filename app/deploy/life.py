"""One life of a hospital's connection: Flower's SuperNode and our worker, until one of them ends.

Both have the hospital's folder as home, an environment of their own, and no port but on loopback. The SuperNode's is
guarded by a secret that is drawn anew for each life.
"""

import logging
import secrets
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import Popen
from typing import IO

from app.deploy import children
from app.deploy.certificates import write_private
from app.deploy.hospital import Hospital, Kit
from app.deploy.voices import TURNED_AWAY, heard
from app.processes import free_port

Say = Callable[[str], None]

FLOWER = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_PRIVATE_MAX_CONCURRENT_OBJ_PULLS": "8",
    "FLWR_PRIVATE_MAX_CONCURRENT_OBJ_PUSHES": "8",
}
"""Flower asks nobody else, and fetches eight parts of a model at once (2 by itself): each costs a round trip."""

STOP_SECONDS = 10.0
"""How long a process gets to end by itself; a SuperNode says good-bye to the coordinator meanwhile."""

LOOK_SECONDS = 0.2


@dataclass
class Life:
    """The processes of one connection."""

    hospital: Hospital
    kit: Kit
    say: Say
    book: logging.Logger
    """Gets every line that they write."""
    processes: dict[str, Popen[str]] = field(default_factory=dict)
    readers: list[threading.Thread] = field(default_factory=list)

    def live(self, stopped: threading.Event) -> None:
        """Start all, wait until one ends or `stopped` is set, end all. Raises OSError where nothing can be started."""
        port, secret = free_port(), self.hospital.folder / "flower" / "secret"
        write_private(secret, secrets.token_hex(32).encode())
        try:
            loopback = ["--address", f"127.0.0.1:{port}", "--secret", str(secret)]
            self._start("worker", "resident", str(self.hospital.folder), *loopback)
            self._start("connection", "node", str(self.hospital.folder), *self._node(port, secret))
            while not stopped.wait(LOOK_SECONDS) and not self._ended():
                pass
            if not stopped.is_set():
                self._mourn()
        finally:
            self._end()
            secret.unlink(missing_ok=True)

    def _node(self, port: int, secret: Path) -> list[str]:
        return [
            "--superlink", self.kit.address,
            "--root-certificates", str(self.hospital.authority),
            "--auth-supernode-private-key", str(self.hospital.key),
            "--host", "127.0.0.1", "--port", str(port),
            "--isolation", "process",
            "--superexec-auth-secret-file", str(secret),
            "--node-config", f'hospital="{self.kit.hospital}"',
        ]  # fmt: skip

    def _start(self, who: str, module: str, *arguments: str) -> None:
        home = self.hospital.folder / "flower"
        env = children.environment(home, FLWR_HOME=str(home), **FLOWER)
        command = [sys.executable, "-m", f"app.deploy.{module}", *arguments]
        process = self.processes[who] = children.start(command, env=env, cwd=self.hospital.folder / "work")
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                self._listen(who, stream, aloud=who == "worker" and stream is process.stdout)

    def _listen(self, who: str, stream: IO[str], *, aloud: bool) -> None:
        def read() -> None:
            with stream:
                for line in stream:
                    text = line.rstrip()
                    self.book.info("%s: %s", who, text)
                    words = text if aloud else heard(text) if who == "connection" else ""
                    if words:
                        self.say(words)

        thread = threading.Thread(target=read, daemon=True)
        thread.start()
        self.readers.append(thread)

    def _ended(self) -> dict[str, int]:
        """The processes that are gone, with their exit codes."""
        codes = {who: process.poll() for who, process in self.processes.items()}
        return {who: code for who, code in codes.items() if code is not None}

    def _mourn(self) -> None:
        for who, code in self._ended().items():
            self.say(f"the {who} ended with {code}; its words are in {self.hospital.logs / 'hospital.log'}")
            if (who, code) == ("connection", 0):
                self.say(TURNED_AWAY)
            self.hospital.record("ended", what=who, code=code)

    def _end(self) -> None:
        for process in self.processes.values():
            children.stop(process, STOP_SECONDS)
        for reader in self.readers:
            reader.join(timeout=1)
