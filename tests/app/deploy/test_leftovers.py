import sqlite3

import pytest
from flwr.supercore.state.schema import objectstore_models

from app.deploy.leftovers import TABLES, destroyed

UPDATE = b"raw update of a hospital " * 4000


@pytest.fixture
def state(tmp_path):
    """A database in Flower's manner (WAL), with an update in it, kept open as a SuperLink does."""
    path = tmp_path / "state.db"
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("CREATE TABLE objects (object_id TEXT PRIMARY KEY, content BLOB)")
    connection.execute("CREATE TABLE object_children (parent_id TEXT, child_id TEXT)")
    connection.execute("CREATE TABLE run_objects (run_id INTEGER, object_id TEXT)")
    connection.execute("CREATE TABLE node (node_id INTEGER)")
    connection.execute("INSERT INTO node VALUES (7)")
    connection.execute("INSERT INTO objects VALUES ('a', ?)", (UPDATE,))
    yield path, connection
    connection.close()


def everything(folder):
    return b"".join(path.read_bytes() for path in folder.iterdir())


def test_no_byte_of_an_update_is_left_and_registrations_stay(state, tmp_path):
    path, connection = state
    assert UPDATE[:1000] in everything(tmp_path)
    assert destroyed(path)
    assert UPDATE[:25] not in everything(tmp_path)
    assert connection.execute("SELECT node_id FROM node").fetchall() == [(7,)]


def test_rows_that_flower_deleted_itself_are_gone_from_the_file_too(state, tmp_path):
    path, connection = state
    connection.execute("DELETE FROM objects")
    assert UPDATE[:1000] in everything(tmp_path)
    assert destroyed(path)
    assert UPDATE[:25] not in everything(tmp_path)


def test_a_database_in_use_is_left_for_later(state, monkeypatch):
    path, connection = state
    monkeypatch.setattr("app.deploy.leftovers.BUSY_SECONDS", 0.05)
    connection.execute("BEGIN IMMEDIATE")
    assert not destroyed(path)
    connection.execute("ROLLBACK")
    assert destroyed(path)


def test_flower_s_own_schema_has_these_tables():
    names = set(objectstore_models.ObjectStoreBase.metadata.tables)
    assert set(TABLES) <= names
