"""The database: its tables, and how a connection is opened."""

import json
import os
import sqlite3
import time
from pathlib import Path

from gpuctl_serving.index.failures import Damaged, disk_failure, load_failure
from gpuctl_serving.kit.errors import LoadFailed

DATABASE = "index.db"
APPLICATION_ID = 0x67707531  # "gpu1"
VERSION = 1

#: Files above this are not checked page by page at start: reading them twice would double the load time.
_CHECK_BYTES = 1 << 30
#: Up to this size the indexes are compared with their tables too.
_COMPARE_BYTES = 256 << 20
_APPEARS_SECONDS = 10.0

_TABLES = """
CREATE TABLE namespaces (ns INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
-- AUTOINCREMENT: an item's number is never used again, so a copy in memory cannot mistake one for another.
CREATE TABLE items (
  item INTEGER PRIMARY KEY AUTOINCREMENT, ns INTEGER NOT NULL, id TEXT NOT NULL,
  text TEXT, metadata TEXT NOT NULL, sequence INTEGER NOT NULL, UNIQUE (ns, id));
-- One row for each scalar of an item's metadata: what a filter looks up.
CREATE TABLE postings (
  ns INTEGER NOT NULL, key TEXT NOT NULL, value TEXT NOT NULL, item INTEGER NOT NULL,
  PRIMARY KEY (ns, key, value, item)) WITHOUT ROWID;
CREATE INDEX postings_of_item ON postings (item);
CREATE TABLE generations (
  gen INTEGER PRIMARY KEY AUTOINCREMENT, key TEXT NOT NULL UNIQUE, dimension INTEGER NOT NULL);
-- A vector counts only while its sequence is its item's: a later write makes it stale in other generations.
CREATE TABLE vectors (
  gen INTEGER NOT NULL, item INTEGER NOT NULL, sequence INTEGER NOT NULL, vector BLOB NOT NULL,
  PRIMARY KEY (gen, item));
CREATE INDEX vectors_state ON vectors (gen, item, sequence);
CREATE INDEX vectors_of_item ON vectors (item);
-- The append log: one row for each changed item. Followers and the writer's own memory follow it.
CREATE TABLE log (sequence INTEGER PRIMARY KEY AUTOINCREMENT, op TEXT NOT NULL, item INTEGER, gen INTEGER);
"""

#: What came with the append log. Only ever added to a database: a release that knows nothing of the log can
#: read it and write to it after a rollback, and the next one that does notices.
_SEALS = """
ALTER TABLE items ADD COLUMN crc INTEGER;
ALTER TABLE vectors ADD COLUMN crc INTEGER;
-- What of the append log is in here, and the sums of all rows' checksums at that point.
CREATE TABLE tail (
  one INTEGER PRIMARY KEY CHECK (one = 1), line BLOB NOT NULL, sequence INTEGER NOT NULL,
  crc INTEGER NOT NULL, items INTEGER NOT NULL, vectors INTEGER NOT NULL);
"""


def connect(directory: Path, *, writable: bool) -> sqlite3.Connection:
    """A connection in autocommit mode; one thread at a time may use it."""
    connection = sqlite3.connect(
        directory / DATABASE,
        timeout=5.0,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=256,
    )
    # A power cut may take the last commits from the database, never from the append log, which is replayed.
    connection.execute("PRAGMA synchronous=NORMAL")
    connection.execute("PRAGMA cache_size=-16384")
    connection.execute("PRAGMA journal_size_limit=67108864")
    # Else every write that replaces something makes a file in /var/tmp, which a kill leaves there.
    connection.execute("PRAGMA temp_store=MEMORY")
    if not writable:
        connection.execute("PRAGMA query_only=1")
    return connection


def open_database(directory: Path, *, create: bool, wait: bool = True) -> sqlite3.Connection:
    """Opens the database, making it when it is not there and `create`. Raises LoadFailed with a next step.

    Damaged is raised for what only damage explains.
    """
    path = directory / DATABASE
    connection = None
    try:
        if wait and not create:
            _wait_for(path)
        connection = connect(directory, writable=True)
        if create:
            _create(connection, directory)
        _check(connection, path)
        opened, connection = connection, None
        return opened
    except sqlite3.Error as failure:
        raise load_failure(path, failure) from failure
    except OSError as failure:
        raise disk_failure(directory, failure) from failure
    finally:
        if connection is not None:
            connection.close()


def _create(connection: sqlite3.Connection, directory: Path) -> None:
    if connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]:
        return
    connection.execute("PRAGMA page_size=8192")
    # Free pages can be given back a few at a time, between two commits.
    connection.execute("PRAGMA auto_vacuum=INCREMENTAL")
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("BEGIN IMMEDIATE")
    try:
        _execute_all(connection, _TABLES)
        _execute_all(connection, _SEALS)
        connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version={VERSION}")
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    (directory / DATABASE).chmod(0o600)
    # The new file's name must survive a power cut too.
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _execute_all(connection: sqlite3.Connection, script: str) -> None:
    for statement in script.split(";\n"):
        if statement.strip():
            connection.execute(statement)


def is_sealed(connection: sqlite3.Connection) -> bool:
    """Whether the database has room for checksums and for its place in the log."""
    return bool(connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'tail'").fetchone())


def add_seals(connection: sqlite3.Connection) -> None:
    """Makes that room in a database that an earlier release made. Its rows get their checksums later."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        _execute_all(connection, _SEALS)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _wait_for(path: Path) -> None:
    """Another instance holds the lock and may be making the database this moment."""
    until = time.monotonic() + _APPEARS_SECONDS
    while not _has_tables(path):
        if time.monotonic() > until:
            raise LoadFailed(
                f"{path} does not exist, and the process that holds the writer lock does not make it. "
                f"See {path.parent / 'writer.lock'} for who holds it, and restart that instance."
            )
        time.sleep(0.02)


def _has_tables(path: Path) -> bool:
    if not path.exists() or path.stat().st_size == 0:
        return False
    connection = connect(path.parent, writable=False)
    try:
        return bool(connection.execute("PRAGMA user_version").fetchone()[0])
    except sqlite3.OperationalError as failure:
        if failure.sqlite_errorcode in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_CANTOPEN):
            return False
        raise
    finally:
        connection.close()


def _check(connection: sqlite3.Connection, path: Path) -> None:
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if application != APPLICATION_ID:
        raise LoadFailed(
            f"{path} is a database of another program. Point GPUCTL_INDEX_DIR at a directory of its own."
        )
    if version > VERSION:
        raise LoadFailed(
            f"{path} was written by a newer version (format {version}; this one knows {VERSION}). "
            "Deploy that version, or restore a backup made by this one."
        )
    connection.execute("PRAGMA journal_mode=WAL")
    if version == 0:
        raise Damaged(path, "it has no version")
    size = path.stat().st_size
    if size <= _CHECK_BYTES:
        look = "integrity_check" if size <= _COMPARE_BYTES else "quick_check"
        (verdict,) = connection.execute(f"PRAGMA {look}(1)").fetchone()
        if verdict != "ok":
            raise Damaged(path, verdict)


def scalars(metadata: dict[str, object]) -> list[tuple[str, str]]:
    """(key, value) pairs a filter can find this metadata by. A list counts as each of its scalars."""
    found = set()
    for key, value in metadata.items():
        for one in value if isinstance(value, list) else [value]:
            if one is None or isinstance(one, str | int | float | bool):
                found.add((key, posting(one)))
    return sorted(found)


_encode = json.JSONEncoder(ensure_ascii=False).encode


def posting(value: object) -> str:
    """One text for equal values: 1 and 1.0 are equal, 1 and true and "1" are not."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return _encode(value)
