"""What a run leaves in Flower's state: messages and raw updates, which nobody needs once it is over.

Flower deletes most rows of a finished run by itself; SQLite keeps their bytes in free pages and in its write-ahead log.
"""

import logging
import sqlite3
from contextlib import closing
from pathlib import Path

log = logging.getLogger(__name__)

TABLES = ("run_objects", "object_children", "objects")
"""Where flwr 1.41 keeps contents of messages (supercore/state/schema/objectstore_models.py)."""

BUSY_SECONDS = 5.0


def destroyed(database: Path) -> bool:
    """Overwrite and remove every message's content. Only while no run is going on.

    Returns:
        Whether it is done; False where the SuperLink was using its database just then: try again later.
    """
    try:
        with closing(sqlite3.connect(database, timeout=BUSY_SECONDS, isolation_level=None)) as connection:
            connection.execute("PRAGMA secure_delete = ON")
            for table in TABLES:
                connection.execute(f"DELETE FROM {table}")  # noqa: S608 — names of ours
            connection.execute("VACUUM")
            busy, *_ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            return not busy
    except sqlite3.OperationalError as error:
        log.info("Flower's state is in use: %s", error)
        return False
