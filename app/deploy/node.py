"""Flower's SuperNode as it is but for what follows: `python -m app.deploy.node DIR ARGS…`, ARGS being its own.

It asks more often while a run is under way. flwr 1.41 asks its SuperLink for messages every 3 s and looks for a
finished answer every 0.5 s, both fixed in the code: a round of a small model would wait most of its time. Here both are
short for a while after a message, and Flower's own after that, so that idle hospitals do not load the coordinator. The
parts of a message that are still on their way are looked for often, too.

It presents the hospital's client certificate where the kit says mTLS: flwr 1.41 has no flag for one, but its client
takes any TLS context. And it says which release is installed here when it is let in.

It makes a request again whose connection broke off, and a heartbeat at which the coordinator failed. It ends, to be
started again, where Flower would go on without heartbeats: asking for messages, yet offline to the coordinator.
"""

import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import httpx

from app.deploy.children import die_with_parent
from app.deploy.hospital import Hospital
from app.deploy.reach import tls
from app.deploy.releases import HEADER, release
from strategies.exchange.arrivals import look_often

if TYPE_CHECKING:
    from flwr.supercore.protobuf.client import ProtobufCall, ProtobufRequestContext
    from flwr.supernode.fleet_http_client import FleetHttpClient

log = logging.getLogger("flwr")
"""Flower's own: what it says is kept, and put into words for the console (`app.deploy.voices`)."""

ASKING_S, QUICK_ASKING_S = 3.0, 0.5
"""Flower's pause between questions, and ours while a run is under way."""

WAITING_S = 0.1
"""Between looks for a finished answer."""

UNDER_WAY_S = 120.0
"""So long after a message another one is expected."""


LOST = 3
"""Exit code where the connection was lost for good, so that whoever started it starts it again."""


@dataclass
class Pauses:
    """Sleeps in Flower's place."""

    active: float = float("-inf")

    def sleep(self, seconds: float) -> None:
        """As Flower asks for, or shorter."""
        now = time.monotonic()
        if seconds < ASKING_S:
            self.active = now
            time.sleep(min(seconds, WAITING_S))
        else:
            time.sleep(QUICK_ASKING_S if now - self.active < UNDER_WAY_S else seconds)


@dataclass(frozen=True)
class Introduced:
    """Puts the release that is installed here into the request that activates the node."""

    release: str

    def intercept(self, context: "ProtobufRequestContext", call_next: "ProtobufCall") -> httpx.Response:
        """As Flower's client calls its interceptors."""
        if context.rpc_method.endswith("/ActivateNode"):
            context.request.headers[HEADER] = self.release
        return call_next(context)


@dataclass(frozen=True)
class Patient:
    """Says of a connection that broke off no more than that, so that the request is made again.

    flwr 1.41 gives up for good where an error's text names TLS (http_retry.py), and the round's answer is lost. Only a
    certificate that cannot be trusted is a reason to.
    """

    def intercept(self, context: "ProtobufRequestContext", call_next: "ProtobufCall") -> httpx.Response:
        """As Flower's client calls its interceptors."""
        try:
            return call_next(context)
        except httpx.TransportError as error:
            if "certificate" in str(error).lower():
                raise
            raise type(error)("the connection broke off") from error


@dataclass
class Heart:
    """Says of a heartbeat at which the coordinator failed that it did not arrive, so that it is sent again.

    A full disk at the coordinator makes a 500 of each. At that, flwr 1.41 sends no more of them
    (fleet_http_connection.py lets the error end the thread of heartbeat.py); one that did not arrive it sends again,
    20 s later at the most.
    """

    is_failing: bool = False

    def intercept(self, context: "ProtobufRequestContext", call_next: "ProtobufCall") -> httpx.Response:
        """As Flower's client calls its interceptors."""
        response = call_next(context)
        if context.rpc_method.endswith("/SendNodeHeartbeat"):
            self._heed(response)
        return response

    def _heed(self, response: httpx.Response) -> None:
        was_failing, self.is_failing = self.is_failing, response.is_server_error
        answer = f"{response.status_code} {response.reason_phrase}"
        if self.is_failing != was_failing:
            log.warning("Heartbeat answered %s", answer)
        if self.is_failing:
            raise httpx.RemoteProtocolError(f"heartbeat answered {answer}")


@dataclass(frozen=True)
class Trusted:
    """Makes Flower's client with a TLS context of ours: the kit's authority, and the client certificate."""

    hospital: Hospital

    def from_server_address(
        self, server_address: str, insecure: bool, root_certificates: object, interceptors: Sequence[Any]
    ) -> "FleetHttpClient":
        """In the place of Flower's own, with its arguments."""
        from flwr.supernode.fleet_http_client import FleetHttpClient

        all_of_them = [*interceptors, Introduced(release()), Heart(), Patient()]
        context = tls(self.hospital, self.hospital.kit())
        return FleetHttpClient(f"https://{server_address}", interceptors=all_of_them, verify=context)


def end_with_thread(fault: threading.ExceptHookArgs) -> None:
    """What a thread that an error ended did, nobody does any more: end the process, as `threading.excepthook`."""
    if fault.exc_type is SystemExit:
        return
    threading.__excepthook__(fault)
    logging.shutdown()
    os._exit(LOST)


def main() -> None:
    """Run `flower-supernode` with these arguments; it says good-bye to the coordinator if our parent ends."""
    die_with_parent(signal.SIGTERM)
    threading.excepthook = end_with_thread
    hospital = Hospital(Path(sys.argv.pop(1)))
    from flwr.supernode import fleet_http_connection, start_client_internal
    from flwr.supernode.cli.flower_supernode import flower_supernode

    # Names of two modules, in those modules alone.
    setattr(start_client_internal, "time", SimpleNamespace(sleep=Pauses().sleep))  # noqa: B010
    setattr(fleet_http_connection, "FleetHttpClient", Trusted(hospital))  # noqa: B010
    look_often(start_client_internal, "pull_objects")
    flower_supernode()
    # Its loop gave up, over an error of TLS for example; the thread of its API would keep the process there for ever.
    logging.shutdown()
    os._exit(LOST)


if __name__ == "__main__":
    main()
