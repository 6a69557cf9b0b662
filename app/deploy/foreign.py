"""What another side says of itself, before it stands on one's own terminal or in one's own log."""

import re

LONGEST = 80
"""Characters that are shown."""


def shown(text: object) -> str:
    r"""Short, and nothing but plain signs; "?" stands for every other.

    >>> shown("train\x1b[2J\nround 9")
    'train??2J?round 9'
    """
    return re.sub(r"[^\w.=,+ -]", "?", str(text))[:LONGEST]
