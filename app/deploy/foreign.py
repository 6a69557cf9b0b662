"""What another side says of itself, before it stands on one's own terminal or in one's own log.

A terminal obeys what it is shown: escape sequences move up and wipe lines, marks of direction turn text around.
"""

LONGEST = 80
"""Characters of a name that are shown."""


def shown(text: object, longest: int | None = LONGEST) -> str:
    r"""The printable characters as they are, every other as its escape; at most `longest`, None: all of it.

    >>> shown("train\x1b[2J\nround 9")
    'train\\x1b[2J\\nround 9'
    """
    plain = str(text)[:longest]
    return "".join(char if char.isprintable() else _escaped(char) for char in plain)[:longest]


def _escaped(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")
