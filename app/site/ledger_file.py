"""The chain of a ledger on disk: one writer at a time, every line on the platter before anyone acts on it.

    STATE/ledger.jsonl        the chain (`strategies.privacy.chain`)
    STATE/ledger.lock         flock; on a network file system without it, keep STATE on a local disk
    KEYS/NAME.key             the chain's key, in another place than the ledger and its backups
    KEYS/NAME.key.anchor      how long the chain is, its last mac, and the line that is being written

The anchor is replaced whole and holds the present alone: with the anchors of earlier days at hand, anybody could cut
ledger and anchor back to one point. Whoever kept a copy of both still can, and nothing on this disk shows it; what
replies told of the ledger does (`app.privacy.rollback`).

A line is written in three steps: as pending into the anchor (synced), into the ledger (synced), out of pending.
Wherever a machine stops, the next reader finds either nothing, or a pending line that it completes: what was about to
be spent is spent. A torn or missing line that was not pending cannot come from a power cut: it counts as tampering.
"""

import contextlib
import fcntl
import hmac
import json
import os
import secrets
import stat
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from app.files import sync_folder
from strategies.privacy import chain
from strategies.privacy.chain import Anchor, Fault, Line
from strategies.privacy.ledger import Ledger

LOCK_S = 30.0
"""How long a process waits for another one to let go."""
LOCK_POLL_S = 0.01

OTHERS = 0o077
"""Permissions of a file that are not its owner's."""


class BudgetError(RuntimeError):
    """The hospital declines: nothing was computed, nothing leaves. `code` may leave, the message stays."""

    def __init__(self, code: str, why: str) -> None:
        super().__init__(why)
        self.code = code


@dataclass(frozen=True)
class Memory:
    """What the anchor file says."""

    anchor: Anchor
    pending: str | None
    """The line that is being written, without its newline."""

    def sealed(self, key: bytes) -> bytes:
        """As it stands on disk, with its own mac."""
        facts = {"length": self.anchor.length, "head": self.anchor.head, "pending": self.pending}
        mac = hmac.new(key, json.dumps(facts).encode(), "sha256").hexdigest()
        return json.dumps({**facts, "mac": mac}).encode() + b"\n"

    @classmethod
    def read(cls, key: bytes, sealed: bytes) -> "Memory | None":
        """The other way; None where it was not written with this key."""
        with contextlib.suppress(ValueError, KeyError, TypeError, RecursionError):
            facts = json.loads(sealed)
            memory = cls(Anchor(facts["length"], facts["head"]), facts["pending"])
            return memory if hmac.compare_digest(memory.sealed(key), sealed) else None
        return None


@dataclass(frozen=True)
class Book:
    """A verified chain in hand, with what is needed to add to it. Valid under the lock only."""

    key: bytes
    lines: tuple[Line, ...]
    nbytes: int

    @property
    def anchor(self) -> Anchor:
        return chain.anchor(self.lines)

    @cached_property
    def ledger(self) -> Ledger:
        return Ledger(self.lines)


@dataclass(frozen=True)
class LedgerFile:
    path: Path
    key_path: Path
    clock: Callable[[], float] = field(default=time.time)

    @property
    def anchor_path(self) -> Path:
        return self.key_path.with_name(f"{self.key_path.name}.anchor")

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the ledger alone; let go when the process ends, however it ends."""
        path = self.path.with_suffix(".lock")
        with on_disk(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            _wait_for(handle, path)
            yield
        finally:
            os.close(handle)

    def is_new(self) -> bool:
        """Whether there never was a ledger here. Raises BudgetError where there was one and parts of it are gone."""
        there = [path for path in (self.path, self.key_path, self.anchor_path) if path.exists()]
        if not there or (there == [self.anchor_path] and self._claimed_length() == 0):
            return True
        if self.key_path not in there or self.anchor_path not in there:
            gone = self.anchor_path if self.key_path in there else self.key_path
            raise BudgetError(
                "budget-tampered", f"{gone} is gone, so {self.path} cannot be trusted; restore it from a backup"
            )
        return False

    def create(self, body: Mapping[str, Any]) -> None:
        """Begin a chain with one `opened` line. The key is written last: without it nothing else counts."""
        key = secrets.token_bytes(chain.KEY_BYTES)
        first = chain.sign(key, "opened", body, after=(), at=self._now(()))
        with on_disk(self.key_path):
            self.key_path.parent.mkdir(parents=True, exist_ok=True)
            self._remember(key, Memory(chain.anchor(()), first.text()))
            _replace(self.key_path, key)

    def open(self) -> Book:
        """Read and verify everything, after completing a pending line. Raises BudgetError: budget-tampered, -disk."""
        key, memory, content = self._read()
        torn = _complete_lines(content)
        completed = _completed(content, memory)
        lines, faults = chain.verify(key, completed.decode(errors="replace"), [memory.anchor])
        if faults:
            raise BudgetError(
                "budget-tampered", f"{self.path}: {faults[0].what}; no round is answered until that is explained"
            )
        if memory.pending is not None:
            with on_disk(self.path):
                if completed != content:
                    _write_from(self.path, torn, completed[torn:])
                self._remember(key, Memory(chain.anchor(lines), None))
        return Book(key, lines, len(completed))

    def append(self, book: Book, kind: str, body: Mapping[str, Any]) -> Book:
        """One more line, synced. Raises BudgetError (budget-disk), and then takes back what was written, if it can."""
        line = chain.sign(book.key, kind, body, after=book.lines, at=self._now(book.lines))
        text = f"{line.text()}\n".encode()
        with on_disk(self.path):
            self._remember(book.key, Memory(book.anchor, line.text()))
            try:
                _write_from(self.path, book.nbytes, text)
            except OSError:
                self._take_back(book)
                raise
            after = Book(book.key, (*book.lines, line), book.nbytes + len(text))
            self._remember(book.key, Memory(after.anchor, None))
        return after

    def verify(self, anchors: Iterable[Anchor] = ()) -> tuple[Fault, ...]:
        """Everything that is wrong; `anchors` are what others remember. Changes nothing. Call it under the lock."""
        key, memory, content = self._read()
        completed = _completed(content, memory).decode(errors="replace")
        return chain.verify(key, completed, [memory.anchor, *anchors])[1]

    def _read(self) -> tuple[bytes, Memory, bytes]:
        with on_disk(self.path):
            key, sealed = _read_key(self.key_path), self.anchor_path.read_bytes()
            content = self.path.read_bytes() if self.path.exists() else b""
        return key, self._memory(key, sealed), content

    def _memory(self, key: bytes, sealed: bytes) -> Memory:
        """One line. Earlier anchors kept their history above it."""
        memory = Memory.read(key, b"".join(sealed.splitlines(keepends=True)[-1:]))
        if memory is None:
            raise BudgetError(
                "budget-tampered", f"{self.anchor_path} is damaged or of another key; restore it from a backup"
            )
        return memory

    def _claimed_length(self) -> int:
        """What an anchor without its key says; 0 only while a ledger is being created."""
        with contextlib.suppress(ValueError, KeyError, TypeError, OSError, IndexError):
            return int(json.loads(self.anchor_path.read_bytes().splitlines()[-1])["length"])
        return -1

    def _remember(self, key: bytes, memory: Memory) -> None:
        _replace(self.anchor_path, memory.sealed(key))

    def _take_back(self, book: Book) -> None:
        """After a failed append: the ledger as it was, nothing pending. If that fails too, the line counts as spent."""
        with contextlib.suppress(OSError):
            os.truncate(self.path, book.nbytes)
            self._remember(book.key, Memory(book.anchor, None))

    def _now(self, lines: Sequence[Line]) -> str:
        """Times never decrease, even if the clock does; order is by number, and no cost depends on a time."""
        now = datetime.fromtimestamp(self.clock(), UTC).isoformat(timespec="seconds")
        return max(now, lines[-1].at) if lines else now


@contextlib.contextmanager
def on_disk(path: Path) -> Iterator[None]:
    """What the disk refuses becomes a declined round."""
    try:
        yield
    except OSError as error:
        why = f"cannot use {error.filename or path} ({error.strerror}); the round is declined, nothing was sent"
        raise BudgetError("budget-disk", why) from error


def _complete_lines(content: bytes) -> int:
    """How many bytes of the file are whole lines."""
    return content.rfind(b"\n") + 1


def _completed(content: bytes, memory: Memory) -> bytes:
    """The file with its pending line, where that is all that is missing; otherwise as it is."""
    if memory.pending is None:
        return content
    whole, tail = content[: _complete_lines(content)], content[_complete_lines(content) :]
    pending = f"{memory.pending}\n".encode()
    is_next = whole.count(b"\n") == memory.anchor.length and pending.startswith(tail)
    return whole + pending if is_next else content


def _write_from(path: Path, start: int, text: bytes) -> None:
    """Make the file end with `text`, which begins at byte `start`; synced."""
    is_new = not path.exists()
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.ftruncate(handle, start)
        os.lseek(handle, start, os.SEEK_SET)
        _write_all(handle, text)
        os.fsync(handle)
    finally:
        os.close(handle)
    if is_new:
        sync_folder(path.parent)


def _read_key(path: Path) -> bytes:
    """The key, where it is one and its owner's alone."""
    key, mode = path.read_bytes(), stat.S_IMODE(path.stat().st_mode)
    if mode & OTHERS:
        why = f"{path} may be read by others (mode {mode:04o}): whoever has it can forge the ledger; chmod 600 it"
        raise BudgetError("budget-key", why)
    if len(key) != chain.KEY_BYTES:
        why = f"{path} holds {len(key)} bytes, a key has {chain.KEY_BYTES}; restore it from a backup"
        raise BudgetError("budget-tampered", why)
    return key


def _replace(path: Path, content: bytes) -> None:
    """Its owner's alone, and the old one or the whole new one. Aside there is one name: no older copy is left lying."""
    aside = path.with_name(f"{path.name}.new")
    aside.unlink(missing_ok=True)
    handle = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        _write_all(handle, content)
        os.fsync(handle)
    finally:
        os.close(handle)
    aside.replace(path)
    sync_folder(path.parent)


def _write_all(handle: int, content: bytes) -> None:
    view = memoryview(content)
    while view:
        view = view[os.write(handle, view) :]


def _wait_for(handle: int, path: Path) -> None:
    end = time.monotonic() + LOCK_S
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > end:
                raise BudgetError("budget-busy", f"{path} was held by another process for {LOCK_S:.0f} s") from None
            time.sleep(LOCK_POLL_S)
        else:
            return
