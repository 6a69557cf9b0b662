"""A log that does not grow for ever, and that a full disk makes incomplete but not loud."""

import logging
from logging.handlers import RotatingFileHandler


class Rotated(RotatingFileHandler):
    """Lines that cannot be written are lost; Python's own handler would put a traceback on the console for each."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 — logging's name
        """Nothing: who watches the disk says that it is full."""
