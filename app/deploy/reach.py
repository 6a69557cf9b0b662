"""One question to the coordinator over TLS; nothing of the hospital is sent.

Is it there, is it the kit's, how long is its certificate good, and what time does it have?
"""

import datetime
import os
import ssl
import time
from collections.abc import Iterator
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TypeVar

import httpx
from cryptography import x509

from app.deploy.certificates import WARN_DAYS, days_left, read_certificate
from app.deploy.hospital import Hospital, Kit
from data.check.finding import Finding, Level

TIMEOUT_SECONDS = 10.0
AHEAD_SECONDS, BEHIND_SECONDS = 5.0, 305.0
"""A hospital's clock may be so far off; flwr 1.41 answers 401 beyond."""

HEADER_STEP = 1.0
"""An HTTP date has whole seconds."""

SHUT = 400
"""What nginx answers to a client certificate that it does not accept, or misses."""

RENEWAL = "fedvox site init DIR --mtls, send keys/client.csr to the coordinator, and take in the kit that comes back"

PROXIES = ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")
"""By which httpx, and so Flower's SuperNode, goes through a proxy."""

Caused = TypeVar("Caused", bound=BaseException)


@dataclass(frozen=True)
class Probe:
    """What one connection showed."""

    ahead_s: float
    """This machine's clock minus the coordinator's, to half a second."""
    days_left: float
    seconds: float
    """From first packet to answer."""
    is_shut: bool = False
    """Whether the door wants another client certificate than it was shown."""


def probe(hospital: Hospital, kit: Kit) -> Probe:
    """Ask the coordinator for nothing, as Flower's client would (through HTTPS_PROXY, too), and look at the answer.

    Raises:
        httpx.HTTPError: it cannot be reached, or its certificate is not to be trusted (`distrust`).
        OSError: the client certificate cannot be read.
    """
    asked = [began := time.time()]

    def note(event: str, _: object) -> None:
        if event.endswith("send_request_headers.started"):
            asked.append(time.time())

    with (
        httpx.Client(verify=tls(hospital, kit), timeout=TIMEOUT_SECONDS) as client,
        client.stream("GET", f"https://{kit.address}/", extensions={"trace": note}) as answer,
    ):
        answered = time.time()
        # By position: httpcore gives the inner object of Python's ssl, whose arguments have no names.
        peer = answer.extensions["network_stream"].get_extra_info("ssl_object").getpeercert(True)
    theirs = parsedate_to_datetime(answer.headers.get("Date", "")).timestamp() + HEADER_STEP / 2
    left = days_left(x509.load_der_x509_certificate(peer))
    return Probe((asked[-1] + answered) / 2 - theirs, left, answered - began, answer.status_code == SHUT)


def tls(hospital: Hospital, kit: Kit) -> ssl.SSLContext:
    """Trust the kit's authority alone; show the client certificate where there is one."""
    context = ssl.create_default_context(cafile=str(hospital.authority))
    if kit.mtls:
        context.load_cert_chain(hospital.client_certificate, hospital.client_key)
    return context


def findings(hospital: Hospital, kit: Kit) -> Iterator[Finding]:
    """The client certificate, reachability, the coordinator's certificate and the clock, a line each."""
    if kit.mtls:
        yield _own_certificate(hospital)
    try:
        seen = probe(hospital, kit)
    except (ValueError, TypeError) as error:
        yield Finding(Level.REFUSED, "clock", f"{kit.address} tells no time ({error})", "ask the coordinator")
    except (httpx.HTTPError, OSError) as error:
        yield _unreached(kit, error)
    else:
        yield Finding(Level.NOTE, "reachable", f"{kit.address} answered in {seen.seconds:.2f} s", "nothing to do")
        yield _certificate(seen)
        yield clock(seen.ahead_s)
        if seen.is_shut:
            yield Finding(Level.REFUSED, "client-certificate", "the coordinator's door did not accept it", RENEWAL)


def _unreached(kit: Kit, error: BaseException) -> Finding:
    if distrust := _cause(error, ssl.SSLCertVerificationError):
        what = f"{kit.address}: {distrust.verify_message}"
        return Finding(Level.REFUSED, "certificate", what, "ask the coordinator for its kit")
    remedy = "let outgoing connections to that host and port pass"
    if any(name in os.environ for name in PROXIES):
        remedy += ", and the proxy that HTTPS_PROXY names, or name the host in NO_PROXY"
    return Finding(Level.REFUSED, "unreachable", f"{kit.address}: {error}", remedy)


def _cause(error: BaseException | None, kind: type[Caused]) -> Caused | None:
    """The error of this kind that led to another one."""
    while error is not None and not isinstance(error, kind):
        error = error.__cause__ or error.__context__
    return error


def _own_certificate(hospital: Hospital) -> Finding:
    """This hospital's: the door shuts on the day it ends."""
    left = days_left(read_certificate(hospital.client_certificate))
    ends = datetime.datetime.now(tz=datetime.UTC) + datetime.timedelta(days=left)
    if left <= 0:
        return Finding(Level.REFUSED, "client-certificate", f"this hospital's ended on {ends:%Y-%m-%d}", RENEWAL)
    what = f"this hospital's is good for {left:.0f} days, until {ends:%Y-%m-%d}"
    if left < WARN_DAYS:
        return Finding(Level.WARNING, "client-certificate", what, RENEWAL)
    return Finding(Level.NOTE, "client-certificate", what, "nothing to do")


def clock(ahead_s: float) -> Finding:
    """This machine's clock, against what Flower lets pass."""
    what = f"this clock is {abs(ahead_s):.1f} s {'ahead of' if ahead_s > 0 else 'behind'} the coordinator's"
    if ahead_s > AHEAD_SECONDS or ahead_s < -BEHIND_SECONDS:
        limits = f"refused beyond {AHEAD_SECONDS:.0f} s ahead and {BEHIND_SECONDS:.0f} s behind"
        return Finding(Level.REFUSED, "clock", f"{what}; {limits}", "set the time, by NTP if you can")
    if ahead_s > AHEAD_SECONDS / 2:
        return Finding(Level.WARNING, "clock", what, f"set the time; {AHEAD_SECONDS:.0f} s are refused")
    return Finding(Level.NOTE, "clock", what, "nothing to do")


def _certificate(seen: Probe) -> Finding:
    ends = datetime.datetime.now(tz=datetime.UTC) + datetime.timedelta(days=seen.days_left)
    what = f"the coordinator's is of the kit's authority and good for {seen.days_left:.0f} days, until {ends:%Y-%m-%d}"
    if seen.days_left < WARN_DAYS:
        return Finding(Level.WARNING, "certificate", what, "ask the coordinator to rotate it")
    return Finding(Level.NOTE, "certificate", what, "nothing to do")
