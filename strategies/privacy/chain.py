"""An append-only file that shows when it was touched: JSON lines, each bound by an HMAC to all before it.

    {"number":7,"kind":"reserved","at":"2026-03-01T12:00:00+00:00","body":{…},"before":"MAC","mac":"MAC"}

`mac` = HMAC-SHA-256 under the key of the line's bytes without `,"mac":"…"`; `before` is the mac of the line above, 64
zeros for the first. Whoever has no key cannot edit, add, remove or move a line unseen. A cut tail and a restored older
copy are both a valid beginning of the file: only an anchor kept elsewhere, length and last mac, shows them.
"""

import hashlib
import hmac
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise
from typing import Any

GENESIS = "0" * 64
KEY_BYTES = 32
MAC_CHARS = 64

LINES_REMEMBERED = 1 << 14
"""A ledger is verified whole whenever it is opened; a line that was verified before is looked up instead."""


@dataclass(frozen=True)
class Line:
    number: int
    """0-based; its place in the file."""
    kind: str
    at: str
    """When it was written: ISO 8601, UTC. For people; nothing depends on it."""
    body: Mapping[str, Any]
    before: str
    mac: str

    def __hash__(self) -> int:
        return hash(self.mac)

    def text(self) -> str:
        """The line as it stands in the file, without the newline."""
        return f'{self.signed()[:-1]},"mac":"{self.mac}"}}'

    def signed(self) -> str:
        """What the mac is over."""
        facts = {"number": self.number, "kind": self.kind, "at": self.at, "body": self.body, "before": self.before}
        return json.dumps(facts, separators=(",", ":"), allow_nan=False)


@dataclass(frozen=True)
class Anchor:
    """What to remember elsewhere: how long the chain was, and its last mac."""

    length: int
    head: str


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong with a file."""

    line: int
    """The line's number, from 0."""
    code: str
    """edited, removed, moved, spliced, torn or cut."""
    what: str


def sign(key: bytes, kind: str, body: Mapping[str, Any], *, after: Sequence[Line], at: str) -> Line:
    """The line that follows `after`."""
    line = Line(len(after), kind, at, body, before=after[-1].mac if after else GENESIS, mac="")
    return replace(line, mac=_mac(key, line.signed()))


def anchor(lines: Sequence[Line]) -> Anchor:
    """What to remember of these lines."""
    return Anchor(len(lines), lines[-1].mac if lines else GENESIS)


@lru_cache(maxsize=LINES_REMEMBERED)
def read(key: bytes, text: str) -> Line | None:
    """The line of one text; None where its mac is not right. Equal bytes under one key have equal macs: remembered."""
    mac = text[-MAC_CHARS - 2 : -2]
    signed = text.removesuffix(f',"mac":"{mac}"}}') + "}"
    if len(signed) > len(text) or not hmac.compare_digest(mac.encode(), _mac(key, signed).encode()):
        return None
    return Line(**json.loads(text))


def verify(key: bytes, content: str, anchors: Iterable[Anchor] = ()) -> tuple[tuple[Line, ...], tuple[Fault, ...]]:
    """All authentic lines of a file in their order, and everything that is wrong with it; no fault, no doubt."""
    texts = content.split("\n")
    tail = texts.pop()
    lines = [read(key, text) for text in texts]
    authentic = tuple(line for line in lines if line is not None)
    faults = [*_edited(lines), *_removed(lines), *_moved(authentic), *_spliced(authentic)]
    if tail:
        faults.append(Fault(len(texts), "torn", f"line {len(texts)} has no end: the machine stopped while writing it"))
    return authentic, (*faults, *_cut(authentic, max(_numbers(lines), default=-1) + 1, anchors))


def _numbers(lines: Sequence[Line | None]) -> list[int]:
    """Each line's number; one that cannot be read has the number after the line above it."""
    numbers: list[int] = []
    for line in lines:
        above = numbers[-1] if numbers else -1
        numbers.append(above + 1 if line is None else line.number)
    return numbers


def _edited(lines: Sequence[Line | None]) -> list[Fault]:
    return [
        Fault(number, "edited", f"line {number} was edited, or was written with another key")
        for number, line in zip(_numbers(lines), lines, strict=True)
        if line is None
    ]


def _removed(lines: Sequence[Line | None]) -> list[Fault]:
    numbers = set(_numbers(lines))
    gone = sorted(set(range(max(numbers, default=0))) - numbers)
    return [Fault(number, "removed", f"line {number} was removed") for number in gone]


def _moved(lines: Sequence[Line]) -> list[Fault]:
    highest, faults = -1, []
    for line in lines:
        if line.number <= highest:
            faults.append(
                Fault(line.number, "moved", f"line {line.number} stands below line {highest}: moved or repeated")
            )
        highest = max(highest, line.number)
    return faults


def _spliced(lines: Sequence[Line]) -> list[Fault]:
    return [
        Fault(line.number, "spliced", f"line {line.number} does not follow line {above.number}: from another copy")
        for above, line in pairwise(lines)
        if line.number == above.number + 1 and line.before != above.mac
    ]


def _cut(lines: Sequence[Line], length: int, anchors: Iterable[Anchor]) -> list[Fault]:
    macs = {line.number: line.mac for line in lines}
    faults = []
    for seen in anchors:
        number = seen.length - 1
        if seen.length > length:
            what = f"{length} lines, but {seen.length} were seen: its end was cut off, or an older copy restored"
            faults.append(Fault(length, "cut", what))
        elif number in macs and macs[number] != seen.head:
            what = f"line {number} is not the one that was seen: another history"
            faults.append(Fault(number, "spliced", what))
    return faults


def _mac(key: bytes, signed: str) -> str:
    return hmac.new(key, signed.encode(), hashlib.sha256).hexdigest()
