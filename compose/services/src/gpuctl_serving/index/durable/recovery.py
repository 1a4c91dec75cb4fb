"""Makes the database and the log agree before anything is served, and says what that took.

Exactly one of these holds when the writer opens: the two agree; the log is ahead, and is replayed; the log
is behind or damaged while the database is whole, and a new line of the log begins at the database's state;
the database is damaged, and is made again from a snapshot and the log (rebuild.py); or it cannot be told
what was acknowledged, and nothing is served.
"""

import os
import shutil
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from gpuctl_serving.index.durable import manifest, scan
from gpuctl_serving.index.durable.files import move_aside, stamp, sync_directory
from gpuctl_serving.index.durable.log import AppendLog, Policy, Position, make_segment
from gpuctl_serving.index.durable.records import HEADER_BYTES, Line
from gpuctl_serving.index.durable.replay import replay
from gpuctl_serving.index.durable.report import Report
from gpuctl_serving.index.durable.sealing import reseal, sums
from gpuctl_serving.index.rows import Rows, Tail
from gpuctl_serving.index.schema import DATABASE, add_seals, is_sealed
from gpuctl_serving.kit.errors import LoadFailed

TOOL = "python -m gpuctl_serving.index.tool"


class TooOld(Exception):
    """The database is whole, but of an earlier moment than the log can bring forward."""


@dataclass
class Place:
    """What recovery works on, and whom the log tells how long a sync took."""

    directory: Path
    policy: Policy
    report: Report
    heard: Callable[[float], None] = lambda _: None
    #: A person decided that what cannot be read is lost.
    accept_loss: bool = False

    @property
    def database(self) -> Path:
        """The database's file."""
        return self.directory / DATABASE


def join(place: Place, connection: sqlite3.Connection, newest: int | None = None) -> AppendLog:
    """Opens the log for a whole database, so that the two agree. `newest`: look at so many segments first.

    Raises TooOld when the database cannot be brought forward, LoadFailed when nobody can tell.
    """
    unsealed = not is_sealed(connection)
    if unsealed:
        add_seals(connection)
        place.report.did = "adopted"
    tail, sequence = Rows(connection).tail(), _sequence(connection)
    segments = scan.scan_all(place.directory, newest)
    if newest is not None and not (tail and _names(segments, tail.line)):
        segments = scan.scan_all(place.directory)
    _clear_stillborn(segments)
    found = scan.history(segments, sequence)
    if found is not None and (tail is None or tail.line != found.line) and found.last < found.first:
        # The making of a new line was interrupted before the database knew of it.
        for one in found.segments:
            one.path.unlink()
        return join(place, connection)
    if tail is None:
        return _first_line(place, connection, found, sequence, unsealed=unsealed)
    if tail.sequence != sequence:
        _foreign(place, connection, tail, sequence)
        return _open(place, begin_line(place, connection, sequence))
    if found is None or tail.line != found.line:
        return _other_line(place, connection, tail, segments, found)
    return _same_line(place, connection, tail, found)


def _clear_stillborn(segments: list[scan.Segment]) -> None:
    """Removes last segments whose making a kill interrupted: left there, they would break the chain later."""
    while segments and segments[-1].header is None and segments[-1].size <= HEADER_BYTES:
        segments.pop().path.unlink()


def _names(segments: list[scan.Segment], line: Line) -> bool:
    return any(one.header is not None and one.header.line == line for one in segments)


def _sequence(connection: sqlite3.Connection) -> int:
    row = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'log'").fetchone()
    return int(row[0]) if row else 0


def _first_line(
    place: Place,
    connection: sqlite3.Connection,
    found: scan.History | None,
    sequence: int,
    *,
    unsealed: bool,
) -> AppendLog:
    if found is not None:
        raise _strangers(place)
    if sequence:
        place.report.say(
            "log-begun", f"An earlier release made this index; its log begins at change {sequence + 1}."
        )
    else:
        place.report.did = "created"
    return _open(place, begin_line(place, connection, sequence, unsealed=unsealed))


def _strangers(place: Place) -> LoadFailed:
    return LoadFailed(
        f"{place.directory / scan.FOLDER} is the log of another database than {place.database}: nothing says "
        f"which is wanted. Look at both with `{TOOL} verify --index-dir {place.directory}`, and move one of "
        "them aside."
    )


def _foreign(place: Place, connection: sqlite3.Connection, tail: Tail, sequence: int) -> None:
    place.report.did = "continued"
    place.report.say(
        "written-without-log",
        f"A release that keeps no log wrote changes {tail.sequence + 1} to {sequence}; the log begins anew.",
    )
    connection.execute("BEGIN IMMEDIATE")
    reseal(connection, tail.sequence)
    connection.execute("COMMIT")


def _other_line(
    place: Place,
    connection: sqlite3.Connection,
    tail: Tail,
    segments: list[scan.Segment],
    found: scan.History | None,
) -> AppendLog:
    if _names(segments, tail.line):
        raise TooOld("the log went on from another state of it")
    if found is not None:
        raise _strangers(place)
    place.report.did = "continued"
    aside(place, [one.path for one in segments], "the log could not be read; the database was whole")
    place.report.say("log-lost", f"The log is gone; the database is whole up to change {tail.sequence}.")
    return _open(place, begin_line(place, connection, tail.sequence))


def _same_line(place: Place, connection: sqlite3.Connection, tail: Tail, found: scan.History) -> AppendLog:
    if tail.sequence > found.last or (tail.sequence == found.last and found.crc_at(found.last) != tail.crc):
        return _behind(place, connection, tail, found)
    if found.crc_at(tail.sequence) != tail.crc:
        raise TooOld(f"the log does not lead on from change {tail.sequence}")
    if found.trouble is not None:
        mend(place, found)
    if tail.sequence < found.last:
        try:
            place.report.replayed = replay(connection, found, tail.sequence)
        except ValueError as wrong:
            raise TooOld(str(wrong)) from wrong
        place.report.did = "replayed"
        place.report.say(
            "log-replayed",
            f"{place.report.replayed} changes were in the log and not in the database, and are now.",
        )
    last = found.segments[-1]
    if not last.records and last.size < HEADER_BYTES:
        raise LoadFailed(f"{last.path} has no header. Move it aside and start again.")
    return _open(place, (last.path, last.end, Position(found.line, found.last, last.crc)))


def _behind(place: Place, connection: sqlite3.Connection, tail: Tail, found: scan.History) -> AppendLog:
    place.report.did = "continued"
    why = f"the log ends at change {found.last}"
    if found.trouble is not None:
        why = f"the log is damaged ({found.trouble})"
        if found.trouble.kind == "bad":
            aside(place, [found.trouble.path], f"{why}; the database was whole")
    place.report.say(
        "log-behind",
        f"{why}; the database is whole up to change {tail.sequence}, and the log goes on from it.",
    )
    return _open(place, begin_line(place, connection, tail.sequence))


def mend(place: Place, found: scan.History) -> None:
    """Cuts what follows the last reliable record. Raises LoadFailed when that may lose something."""
    trouble, last = found.trouble, found.segments[-1]
    assert trouble is not None  # noqa: S101  the caller looked
    unsynced = last.header is not None and not last.header.synced
    if found.beyond and not unsynced and not place.accept_loss:
        raise LoadFailed(
            f"The index's log is damaged ({trouble}) and changes behind that place are in no other file. "
            f"Restore a backup with `{TOOL} restore --index-dir {place.directory} --from BACKUP`, or give "
            f"up what follows change {found.last} with "
            f"`{TOOL} rebuild --index-dir {place.directory} --accept-loss`."
        )
    if trouble.kind == "bad":
        keep_copy(place, trouble.path, str(trouble))
        later = [path for path in scan.paths(place.directory) if path.name > last.path.name]
        aside(place, later, f"it follows a place that cannot be read: {trouble}")
    else:
        for path in scan.paths(place.directory):
            if path.name > last.path.name:
                path.unlink()
    cut = last.path.stat().st_size - last.end
    handle = os.open(last.path, os.O_WRONLY)
    try:
        os.ftruncate(handle, last.end)
        os.fsync(handle)
    finally:
        os.close(handle)
    place.report.say(
        "log-cut",
        f"{cut} bytes behind change {found.last} were cut off the log: {trouble.what}.",
        segment=last.path.name,
    )


def begin_line(
    place: Place, connection: sqlite3.Connection, sequence: int, *, unsealed: bool = False
) -> tuple[Path, int, Position]:
    """Begins a new line of the log at the database's state. The segment is there before it is named."""
    at = Position(os.urandom(16), sequence, 0)
    path = make_segment(place.directory, at, place.policy)
    sync_directory(place.directory)
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("BEGIN IMMEDIATE")
    try:
        rows = Rows(connection)
        connection.execute("DELETE FROM tail")
        # At a takeover from a release without checksums there is no time to read everything.
        rows.sums = (0, 0) if unsealed else sums(connection)
        rows.write_tail(at.line, sequence, 0)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    finally:
        connection.execute("PRAGMA synchronous=NORMAL")
    place.report.wants_snapshot = place.report.wants_snapshot or sequence > 0
    return path, HEADER_BYTES, at


def _open(place: Place, end: tuple[Path, int, Position]) -> AppendLog:
    path, size, at = end
    return AppendLog(place.directory, path, size, at, place.policy, lambda seconds: place.heard(seconds))


def aside(place: Place, files: list[Path], why: str) -> None:
    """Moves files into `damaged/`."""
    moved = move_aside(place.directory, [str(one.relative_to(place.directory)) for one in files], why)
    if moved is not None:
        place.report.moved_aside.append(str(moved))


def keep_copy(place: Place, path: Path, why: str) -> None:
    """Keeps a file as it was before it is cut."""
    home = place.directory / "damaged" / f"{stamp()}-copy"
    home.mkdir(parents=True, mode=0o700)
    shutil.copy2(path, home / path.name)
    (home / "why.txt").write_text(why + "\n", encoding="utf-8")
    place.report.moved_aside.append(str(home))


def clear(place: Place) -> None:
    """Removes what an interrupted snapshot, restore or rebuild left."""
    for name in manifest.clear_unfinished(place.directory):
        place.report.said.append(f"An unfinished snapshot ({name}) was removed.")
    shutil.rmtree(place.directory / REBUILDING, ignore_errors=True)


REBUILDING = ".rebuilding"
