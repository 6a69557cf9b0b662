"""One thing that was found in a hospital's data: how bad, what, where, what to do. For on-site eyes: may name files.

A line is `LEVEL code what — remedy`, for people to read and scripts to cut at the first two blanks and the dash.
"""

import re
from dataclasses import dataclass
from enum import StrEnum

from data.errors import DataError


class Level(StrEnum):
    """How bad."""

    REFUSED = "REFUSED"
    """Training does not begin with it."""
    WARNING = "WARNING"
    """Training begins, without it or in spite of it."""
    NOTE = "NOTE"
    """As it should be, or left out as it should be."""


@dataclass(frozen=True)
class Finding:
    level: Level
    code: str
    what: str
    remedy: str

    @property
    def line(self) -> str:
        """One line, whatever stands in it."""
        return " ".join(f"{self.level} {self.code} {self.what} — {self.remedy}".split())


_REMEDY = re.compile(
    r"[;,] ((?:accept|add|check|choose|copy|correct|delete|export|free|give|keep|leave|let|make|name|separate|set|start"
    r"|use)\b(?:(?!; ).)*)$"
)
"""The end of an error's message: where it tells what to do, it begins with one of these verbs."""

_OTHERWISE = "correct it, or leave it out"


def of_error(error: DataError, level: Level) -> Finding:
    """An error as a finding: its message is cut where it begins to tell what to do."""
    text = " ".join(str(error).split())
    if (told := _REMEDY.search(text)) is None:
        return Finding(level, error.code, text, _OTHERWISE)
    return Finding(level, error.code, text[: told.start()], told.group(1))
