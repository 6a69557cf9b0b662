"""Nothing private in an error: what goes wrong at a hospital leaves as a code; the words stay in its own log."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from logging.handlers import RotatingFileHandler
from pathlib import Path

from flwr.app import Context, Message

from app.config import ConfigError
from app.site.budget import BudgetError
from data.errors import DataError
from strategies import records

log = logging.getLogger(__name__)

ABOUT_NO_PATIENT = ("budget-", "policy-", "other-")
"""Beginnings of codes that follow from events, limits and hashes alone."""

Handler = Callable[[Message, Context], Message]


class Declined(Exception):
    """The hospital will not take part in this round."""

    def __init__(self, code: str, why: str) -> None:
        super().__init__(why)
        self.code = code


def shielded(handler: Handler) -> Handler:
    """`handler`, with every exception turned into a reply that carries a code and nothing else."""

    def safe(message: Message, context: Context) -> Message:
        try:
            return handler(message, context)
        except Exception as error:
            code = code_of(error)
            if not records.SAFE_CODE.fullmatch(code):
                code = "internal"  # what is no code may be a name
            log.warning(
                "hospital declined %s with code %s: %s", message.metadata.message_type, code, error, exc_info=error
            )
            return records.decline(message, code)

    return safe


def code_of(error: Exception) -> str:
    """A stable, public word for what went wrong."""
    if isinstance(error, Declined | DataError | BudgetError):
        return error.code
    if isinstance(error, ConfigError):
        return "configuration"
    if isinstance(error, MemoryError):
        return "out-of-memory"
    if isinstance(error, FloatingPointError):
        return "loss-not-finite"
    if isinstance(error, OSError):
        return "disk" if error.filename or error.errno else "system"
    return "internal"


@contextmanager
def discreet(*, is_private: bool) -> Iterator[None]:
    """Where training is private, what went wrong may tell of patients: but for codes that cannot, "declined" leaves."""
    try:
        yield
    except Exception as error:
        if not is_private or code_of(error).startswith(ABOUT_NO_PATIENT):
            raise
        raise Declined("declined", f"{code_of(error)}: {error}") from error


@contextmanager
def logbook(site: str, folder: Path) -> Iterator[None]:
    """Write whatever goes wrong inside to FOLDER/site.log (rotated, 5 × 1 MB), then let it pass."""
    try:
        yield
    except Exception as error:
        _write_to(site, folder, error)
        raise


def _write_to(site: str, folder: Path, error: Exception) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    book = RotatingFileHandler(folder / "site.log", maxBytes=1_000_000, backupCount=5, encoding="utf-8")
    book.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    try:
        trace = (type(error), error, error.__traceback__)
        book.emit(logging.LogRecord(site, logging.ERROR, "", 0, "%s", (error,), trace))
    finally:
        book.close()
