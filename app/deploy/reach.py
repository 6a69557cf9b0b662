"""One question to the coordinator over TLS; nothing of the hospital is sent.

Is it there, is it the kit's, how long is its certificate good, and what time does it have?
"""

import datetime
import http.client
import socket
import ssl
import time
from collections.abc import Iterator
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

from cryptography import x509

from app.deploy.certificates import WARN_DAYS, days_left
from app.deploy.hospital import Hospital, Kit
from data.check.finding import Finding, Level

TIMEOUT_SECONDS = 10.0
AHEAD_SECONDS, BEHIND_SECONDS = 5.0, 305.0
"""A hospital's clock may be so far off; flwr 1.41 answers 401 beyond."""

HEADER_STEP = 1.0
"""An HTTP date has whole seconds."""


@dataclass(frozen=True)
class Probe:
    """What one connection showed."""

    ahead_s: float
    """This machine's clock minus the coordinator's, to half a second."""
    days_left: float
    seconds: float
    """From first packet to answer."""


def probe(hospital: Hospital, kit: Kit) -> Probe:
    """Ask the coordinator for nothing, and look at how it answers.

    Raises:
        ssl.SSLError: its certificate is not of the kit's authority, not for this address, or has ended.
        OSError: it cannot be reached.
    """
    host, _, port = kit.address.rpartition(":")
    began = time.time()
    link = http.client.HTTPSConnection(host.strip("[]"), int(port), timeout=TIMEOUT_SECONDS, context=tls(hospital, kit))
    try:
        link.connect()
        peer = bytes(link.sock.getpeercert(binary_form=True) or b"")
        asked = time.time()
        link.request("GET", "/")
        date = link.getresponse().getheader("Date", "")
        answered = time.time()
    finally:
        link.close()
    theirs = parsedate_to_datetime(date).timestamp() + HEADER_STEP / 2
    certificate = x509.load_der_x509_certificate(peer)
    return Probe((asked + answered) / 2 - theirs, days_left(certificate), answered - began)


def tls(hospital: Hospital, kit: Kit) -> ssl.SSLContext:
    """Trust the kit's authority alone; show the client certificate where there is one."""
    context = ssl.create_default_context(cafile=str(hospital.authority))
    if kit.mtls:
        context.load_cert_chain(hospital.folder / "kit" / "client.crt", hospital.folder / "keys" / "client.key")
    return context


def findings(hospital: Hospital, kit: Kit) -> Iterator[Finding]:
    """Reachability, certificate and clock, a line each."""
    try:
        seen = probe(hospital, kit)
    except ssl.SSLCertVerificationError as error:
        yield Finding(
            Level.REFUSED, "certificate", f"{kit.address}: {error.verify_message}", "ask the coordinator for its kit"
        )
    except (ValueError, TypeError) as error:
        yield Finding(Level.REFUSED, "clock", f"{kit.address} tells no time ({error})", "ask the coordinator")
    except (socket.gaierror, ssl.SSLError, OSError, http.client.HTTPException) as error:
        yield Finding(
            Level.REFUSED,
            "unreachable",
            f"{kit.address}: {error}",
            "let outgoing connections to that host and port pass",
        )
    else:
        yield Finding(Level.NOTE, "reachable", f"{kit.address} answered in {seen.seconds:.2f} s", "nothing to do")
        yield _certificate(seen)
        yield clock(seen.ahead_s)


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
