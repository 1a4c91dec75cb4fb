"""Opens an index directory: database and log, whole and in step, as the writer or as a follower."""

import sqlite3
from dataclasses import dataclass
from pathlib import Path

from gpuctl_serving.index.durable import rebuild, scan
from gpuctl_serving.index.durable.log import AppendLog
from gpuctl_serving.index.durable.manifest import snapshots
from gpuctl_serving.index.durable.recovery import Place, TooOld, clear, join
from gpuctl_serving.index.durable.restore import check_not_restoring, clear_interrupted, undo_interrupted
from gpuctl_serving.index.durable.sealing import reseal, sums, verify_rows
from gpuctl_serving.index.failures import Damaged, disk_failure, load_failure
from gpuctl_serving.index.rows import Rows
from gpuctl_serving.index.schema import is_sealed, open_database
from gpuctl_serving.kit.errors import LoadFailed

#: Databases above this are compared row by row only by `verify`; their vectors are, whenever they are loaded.
VERIFY_BYTES = 1 << 30


@dataclass(frozen=True)
class Opened:
    """What the writer's thread works with."""

    connection: sqlite3.Connection
    #: None for a follower: only the holder of the lock appends.
    journal: AppendLog | None


def open_follower(place: Place) -> Opened:
    """Opens what another instance writes. Raises LoadFailed."""
    place.report.did = "followed"
    check_not_restoring(place.directory)
    before = _file(place.database)
    connection = open_database(place.directory, create=False)
    try:
        # A restore may have begun, or even ended, while it was opened: what is open would be the old file.
        check_not_restoring(place.directory)
        if before not in (None, _file(place.database)):
            raise LoadFailed(f"{place.database} was replaced while it was opened. Start the index again.")
    except BaseException:
        connection.close()
        raise
    return Opened(connection, None)


def _file(path: Path) -> int | None:
    """Which file a name belongs to."""
    return path.stat().st_ino if path.exists() else None


def open_writer(place: Place, found: str | None = None) -> Opened:
    """Opens as the holder of the lock, after whatever recovery it takes. `found`: damage seen since then.

    Raises LoadFailed with a next step when nobody can tell what was acknowledged, or there is no room.
    """
    try:
        return _recovered(place, found)
    except OSError as failure:
        raise disk_failure(place.directory, failure) from failure


def _recovered(place: Place, found: str | None) -> Opened:
    place.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    undo_interrupted(place)
    clear_interrupted(place)
    clear(place)
    if found is not None or _lost(place):
        rebuild.rebuild(place, found or "it is missing")
    try:
        return _open(place)
    except (Damaged, TooOld) as damage:
        if found is not None or not rebuild.can_rebuild(place.directory):
            raise
        why = damage.detail if isinstance(damage, Damaged) else str(damage)
        return _recovered(place, why)


def _lost(place: Place) -> bool:
    """Whether there was a database here and is none now."""
    path = place.database
    if path.exists() and path.stat().st_size:
        return False
    found = scan.history(scan.scan_all(place.directory))
    return (found is not None and found.last > 0) or bool(snapshots(place.directory))


def _open(place: Place) -> Opened:
    path = place.database
    connection = open_database(
        place.directory, create=not path.exists() or not path.stat().st_size, wait=False
    )
    try:
        known = is_sealed(connection) and Rows(connection).tail() is not None
        if known:
            _verify(place, connection, at_start=True)
        journal = join(place, connection)
        try:
            if not known or place.report.did in ("adopted", "replayed", "rebuilt"):
                _verify(place, connection, at_start=False)
        except BaseException:
            journal.close()
            raise
        return Opened(connection, journal)
    except sqlite3.Error as failure:
        connection.close()
        raise load_failure(path, failure) from failure
    except BaseException:
        connection.close()
        raise


def _verify(place: Place, connection: sqlite3.Connection, *, at_start: bool) -> None:
    if place.database.stat().st_size > VERIFY_BYTES:
        place.report.wants_verify = True
        return
    tail = Rows(connection).tail()
    row = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'log'").fetchone()
    if at_start and tail is not None and tail.sequence != (row[0] if row else 0):
        # Written by a release that knows no checksums; `join` gives them to those rows first.
        return
    try:
        unsealed = verify_rows(connection)
    except (ValueError, TypeError, AttributeError) as wrong:
        raise Damaged(place.database, str(wrong)) from wrong
    if unsealed:
        connection.execute("BEGIN IMMEDIATE")
        reseal(connection, None)
        items, vectors = sums(connection)
        connection.execute("UPDATE tail SET items = ?, vectors = ?", (items, vectors))
        connection.execute("COMMIT")
