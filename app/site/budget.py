"""A hospital's privacy budget: nothing is computed before it is reserved, nothing leaves before it is kept.

    reserve   the request was answered before → that reply again
              it was reserved, never answered → the same reservation: its first reply never left
              otherwise the cap is checked and a line written → a reservation
    (compute, with fresh noise)
    commit    the reply is kept on disk, a line written → now it may leave

Check and write are one step under one lock. One request has one committed reply: a second process that computed the
same request gets the first one's bytes, so the same budget never pays for two draws of noise, and the same noise never
meets other inputs. Why in this order: a kill at any point leaves a reservation without a reply, which stays spent.
"""

import contextlib
import hashlib
import hmac
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from app.files import replacing
from app.site.ledger_file import Book, BudgetError, LedgerFile, on_disk
from app.site.run_limits import RunLimits
from app.site.site_file import KEEP_RUNS
from strategies.privacy import ledger
from strategies.privacy.chain import Anchor, Fault
from strategies.privacy.events import Event
from strategies.privacy.ledger import Ledger, Request, Reserved

__all__ = ["Budget", "BudgetError", "Reservation"]

MAC_BYTES = 32
NO_LIMITS = RunLimits()
REPLIES_KEPT = 2
"""Of each run and leg. Retries come in the same round or the next; what is older is charged anew."""


@dataclass(frozen=True)
class Reservation:
    """Leave to compute one reply, or the reply that was given before."""

    number: int
    """The ledger's line."""
    request: Request
    reply: bytes | None
    """Where there is one: send it as it is, and compute nothing."""
    anchor: Anchor
    """Belongs into the reply: in the coordinator's log it shows a ledger that was rolled back."""


@dataclass(frozen=True)
class Budget:
    """The budget of one hospital. Its files are made by the first reservation.

    `key_path`: the key's file, outside of `state_dir` and its backups. Whoever has it can forge the ledger.
    """

    state_dir: Path
    key_path: Path
    hospital: str
    clock: Callable[[], float] = field(default=time.time)
    keep_runs: int = KEEP_RUNS
    """Replies of earlier runs are removed; the ledger's lines never are."""

    def reserve(
        self,
        request: Request,
        events: Sequence[Event],
        *,
        cap: float | None,
        delta: float,
        plan: Sequence[Event] | None = None,
        limits: RunLimits = NO_LIMITS,
    ) -> Reservation:
        """Reserve what answering will cost, before anything is computed.

        `cap`: the hospital's lifetime limit on ε; None records and limits nothing.
        `plan`: every event of the run, fixed beforehand. Counts if it comes with the run's first reservation.
        `limits`: of this run by itself.

        Raises:
            BudgetError: budget-cap, a code of `limits`, or the ledger cannot be used: budget-tampered, budget-foreign,
                budget-busy, budget-disk. Nothing is computed then; where the disk failed half-way, the line may count
                as spent.
        """
        with self._file.locked():
            if self._file.is_new():
                self._file.create(ledger.opening(self.hospital, cap, delta))
            book = self._open()
            earlier = self._taken_up(book, request, events)
            if earlier is None:
                return self._reserve(book, request, events, cap, delta, plan, limits)
            if earlier.reply is None:
                self._check(book.ledger, request, (), cap, delta, limits)
            return earlier

    def commit(self, reservation: Reservation, reply: bytes) -> bytes:
        """Keep a reply for good; what comes back may leave: this reply, or the one another process kept first.

        Raises:
            BudgetError: as `reserve`; budget-answered where another reply was kept and is gone from the disk.
        """
        with self._file.locked():
            book = self._open()
            entry = next((e for e in book.ledger.reserved if e.number == reservation.number), None)
            if entry is None or entry.request != reservation.request.key:
                raise BudgetError(
                    "budget-foreign", f"{self._file.path} holds no reservation {reservation.number} of this request"
                )
            if entry.reply is None:
                self._keep(book.key, entry, reply)
                self._file.append(book, "committed", ledger.committing(entry.number, reply))
                self._forget(book, entry)
                return reply
            kept = self._kept(book.key, entry)
            if kept is None:
                raise BudgetError("budget-answered", f"reservation {entry.number} was answered, and its reply is gone")
            return kept

    def read(self) -> Ledger | None:
        """The verified ledger; None where nothing was ever reserved. Raises BudgetError where it cannot be trusted."""
        with self._file.locked():
            return None if self._file.is_new() else self._open().ledger

    def verify(self, anchors: Iterable[Anchor] = ()) -> tuple[Fault, ...]:
        """Everything that is wrong with the chain; `anchors` are what replies and other logs remember of it.

        Raises BudgetError where key or anchor are gone or unreadable.
        """
        with self._file.locked():
            if self._file.is_new():
                return ()
            return self._file.verify(anchors) or self._foreign()

    def _foreign(self) -> tuple[Fault, ...]:
        owner = self._file.open().ledger.hospital
        return () if owner == self.hospital else (Fault(0, "foreign", f"this is the ledger of {owner!r}"),)

    @property
    def _file(self) -> LedgerFile:
        return LedgerFile(self.state_dir / "ledger.jsonl", self.key_path, self.clock)

    def _open(self) -> Book:
        book = self._file.open()
        if (owner := book.ledger.hospital) != self.hospital:
            raise BudgetError(
                "budget-foreign", f"{self._file.path} is the ledger of {owner!r}, not of {self.hospital!r}"
            )
        return book

    def _taken_up(self, book: Book, request: Request, events: Sequence[Event]) -> Reservation | None:
        """Go on where an earlier attempt at this request stopped; None where there is none to go on with."""
        entry = book.ledger.latest(request)
        kept = None if entry is None else self._kept(book.key, entry)
        if entry is None or (kept is None and (entry.reply is not None or entry.events != tuple(events))):
            return None
        if kept is not None and entry.reply is None:
            book = self._file.append(book, "committed", ledger.committing(entry.number, kept))
        return Reservation(entry.number, request, kept, book.anchor)

    def _reserve(
        self,
        book: Book,
        request: Request,
        events: Sequence[Event],
        cap: float | None,
        delta: float,
        plan: Sequence[Event] | None,
        limits: RunLimits,
    ) -> Reservation:
        before = book.ledger
        if plan is not None and request.run not in before.runs and before.plan(request.run) is None:
            book = self._file.append(book, "planned", ledger.planning(request.run, plan))
        self._check(book.ledger, request, events, cap, delta, limits)
        book = self._file.append(book, "reserved", ledger.reserving(request, events))
        return Reservation(len(book.lines) - 1, request, None, book.anchor)

    def _check(
        self,
        now: Ledger,
        request: Request,
        events: Sequence[Event],
        cap: float | None,
        delta: float,
        limits: RunLimits,
    ) -> None:
        limits.check(request.run, (*now.events(request.run), *events))
        if cap is not None and (after := now.after(events, delta, request.run)) > cap:
            raise BudgetError(
                "budget-cap",
                f"round {request.round} of run {request.run!r} would bring {self.hospital!r} to ε {after:.2f} at "
                f"δ {delta:g}; its limit is {cap:g}, spent so far {now.spent(delta):.2f}",
            )

    # --- replies --------------------------------------------------------------------------------------------------

    def _reply_path(self, entry: Reserved) -> Path:
        return self._replies / _reply_name(entry)

    @property
    def _replies(self) -> Path:
        return self.state_dir / "replies"

    def _keep(self, key: bytes, entry: Reserved, reply: bytes) -> None:
        path = self._reply_path(entry)
        with on_disk(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(path) as file:
                file.write(_seal(key, entry, reply))
                file.write(reply)

    def _kept(self, key: bytes, entry: Reserved) -> bytes | None:
        """The stored reply of a reservation; None where there is none or it is not the one that was kept."""
        try:
            content = self._reply_path(entry).read_bytes()
        except OSError:
            return None
        seal, reply = content[:MAC_BYTES], content[MAC_BYTES:]
        as_committed = entry.reply is None or entry.reply == hashlib.sha256(reply).hexdigest()
        return reply if as_committed and hmac.compare_digest(seal, _seal(key, entry, reply)) else None

    def _forget(self, book: Book, answered: Reserved) -> None:
        """Drop replies that nobody will ask for again: of earlier runs, and of this run and leg all but the newest."""
        answers = [e for e in book.ledger.reserved if e.reply is not None and e.number < answered.number]
        newest = list(dict.fromkeys(e.run for e in reversed(book.ledger.reserved)))[: self.keep_runs]
        same = {_reply_name(e) for e in answers if (e.run, e.leg) == (answered.run, answered.leg)}
        gone = {_reply_name(e) for e in answers if e.run not in newest}
        stored = sorted(self._replies.iterdir(), key=_number)
        old = [path for path in stored if path.name in same][: 1 - REPLIES_KEPT]
        for path in [*old, *(path for path in stored if path.name in gone)]:
            with contextlib.suppress(OSError):
                path.unlink()


def _reply_name(entry: Reserved) -> str:
    return f"{entry.number}-{entry.request[:16]}"


def _number(path: Path) -> int:
    return int(path.name.partition("-")[0])


def _seal(key: bytes, entry: Reserved, reply: bytes) -> bytes:
    """Binds a reply to its reservation."""
    return hmac.new(key, f"{entry.number}/{entry.request}/".encode() + reply, hashlib.sha256).digest()
