"""Send messages to hospitals and hand back their answers one at a time, as they come.

Replies are pulled one message id at a time, so that never more than one reply is in memory here. An answer belongs to
the hospital whose message it replies to: where a node is gone, Flower's error reply names the SuperLink as its source.
What has not come by the deadline is reported as a timeout, and still listened for until it is forgotten; a reply that
is coming in just then is waited for a little.
"""

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from flwr.app import Message
from flwr.serverapp import Grid

from strategies import records
from strategies.exchange.arrivals import given_up, is_flowers

log = logging.getLogger(__name__)

FIRST_POLL_S = 0.01
"""The pause between polls starts here and doubles up to the exchange's `poll_s`: quick rounds end quickly."""

COMING_IN_S = 15.0
"""So long after the deadline for what has begun to come: given up, it cannot be asked for again."""

ERROR_CODES = {
    1: "app-not-loaded",
    2: "app-raised",
    3: "reply-lost",
    4: "reply-lost",
    5: "node-unavailable",
    6: "mod-refused",
    7: "bundle-refused",
    8: "app-crashed",
}
"""Flower's ErrorCode. The reason that comes with it is a hospital's own text and is not used."""


@dataclass(frozen=True)
class Answer:
    """What came back from one hospital: a message with content, or why there is none."""

    hospital: str
    round: int
    """The round in which it was asked."""
    message: Message | None
    code: str = ""


@dataclass
class Post:
    """The messages under way. Lives as long as the run."""

    grid: Grid
    poll_s: float
    pending: dict[str, tuple[str, int]] = field(default_factory=dict)
    """Message id → hospital and round."""

    def waiting_for(self, since_round: int) -> set[str]:
        """Hospitals from whom an answer to this round or a later one is still to come."""
        return {hospital for hospital, asked_in in self.pending.values() if asked_in >= since_round}

    def forget(self, before_round: int) -> None:
        """Stop listening for answers to rounds before this one."""
        self.pending = {key: asked for key, asked in self.pending.items() if asked[1] >= before_round}

    def send(self, messages: Mapping[str, Message], round: int) -> list[Answer]:
        """Push to every hospital at once. Returns an answer for each one whose node Flower does not know any more."""
        batch = records.packed(messages.values()) if is_flowers(self.grid) else list(messages.values())
        accepted = set(self.grid.push_messages(batch))
        unknown = []
        for hospital, message in messages.items():
            if message.metadata.message_id in accepted:
                self.pending[message.metadata.message_id] = (hospital, round)
            else:
                unknown.append(Answer(hospital, round, None, "node-unknown"))
        return unknown

    def collect(self, round: int, deadline_s: float, enough: Callable[[], bool] = lambda: True) -> Iterator[Answer]:
        """Answers as they come, until all of `round` are there or `deadline_s` seconds have passed.

        Answers to earlier rounds that come meanwhile are handed out too; they are waited for as long as it is not
        `enough` without them. Every hospital is asked at least once, so that an engine which computes replies while
        they are pulled is never cut off.
        """
        end = time.monotonic() + deadline_s
        pause = FIRST_POLL_S
        while True:
            before = len(self.pending)
            yield from self._sweep(end + COMING_IN_S)
            open_now = self._open(round)
            done = not open_now and (enough() or not self.pending)
            if done or time.monotonic() >= end:
                break
            pause = FIRST_POLL_S if len(self.pending) < before else min(2 * pause, self.poll_s)
            time.sleep(max(0.0, min(pause, end - time.monotonic())))
        for hospital in open_now:
            yield Answer(hospital, round, None, "timeout")

    def _open(self, round: int) -> list[str]:
        return [hospital for hospital, asked_in in self.pending.values() if asked_in == round]

    def _sweep(self, until: float) -> Iterator[Answer]:
        for key in list(self.pending):
            with given_up(at=until):
                messages = self.grid.pull_messages([key])
            for message in messages:
                if (asked := self.pending.pop(key, None)) is not None:
                    yield _answer(*asked, message)


def _answer(hospital: str, round: int, message: Message) -> Answer:
    if not message.has_error():
        return Answer(hospital, round, message)
    code = ERROR_CODES.get(message.error.code, "failed")
    log.info("round %d: hospital %s did not answer: %s", round, hospital, code)
    return Answer(hospital, round, None, code)
