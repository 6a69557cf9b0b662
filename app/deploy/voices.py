"""What Flower's SuperNode says, in words for the hospital's engineer: what it means, and what to do."""

import re
from collections.abc import Sequence

TURNED_AWAY = (
    "the coordinator ended the connection: it was started anew, this hospital was revoked, or this machine's clock is "
    "more than 5 s ahead or 5 min behind (fedvox site check DIR)"
)
"""What Flower's 401 means. Where a first request meets one, flwr 1.41 ends with 0 and says nothing."""

MEANINGS: Sequence[tuple[re.Pattern[str], str]] = (
    (re.compile(r"SuperNode ID: (\d+)"), r"connected to the coordinator (node \1)"),
    (
        re.compile(r"\[code: 2004\]"),
        "the coordinator does not let this hospital in: its last connection was not closed (it is freed after 60 s), "
        "the key is not enrolled or was revoked, or the same key is in use elsewhere",
    ),
    (
        re.compile(r"CERTIFICATE_VERIFY_FAILED:? ?(.*?)( \(_ssl|$)"),
        r"the coordinator's certificate is not of the kit's authority, or has ended (\1): fedvox site check DIR",
    ),
    (
        re.compile(r"401 Unauthorized|Exit Code: 1$|\[code: 2001\]"),
        TURNED_AWAY,
    ),
    (
        re.compile(r"400 Bad Request"),
        "the coordinator's door did not accept this hospital's client certificate: it has ended, was withdrawn, or "
        "none was shown (fedvox site check DIR)",
    ),
    (
        re.compile(r"500 Internal Server Error"),
        "the coordinator failed at what this hospital asked of it: its disk may be full (this hospital is back by "
        "itself once there is room)",
    ),
    (re.compile(r"Heartbeat answered 200"), "the coordinator hears this hospital again"),
    (re.compile(r"SSL/TLS handshake error detected"), "the connection broke off while it was being secured"),
    (re.compile(r"Connection attempt failed, retrying"), "the coordinator cannot be reached; trying again"),
    (re.compile(r"Connection successful after ([\d.]+) seconds"), r"the coordinator is there again after \1 s"),
)


def heard(line: str) -> str:
    """The meaning of a line of Flower's log; empty where it has none for the console."""
    for pattern, meaning in MEANINGS:
        if found := pattern.search(line):
            return found.expand(meaning)
    return ""
