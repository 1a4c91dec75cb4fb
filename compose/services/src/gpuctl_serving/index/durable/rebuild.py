"""Makes the database again from the newest valid snapshot and the log."""

import shutil
import sqlite3
from pathlib import Path

from gpuctl_serving.index.durable import scan
from gpuctl_serving.index.durable.files import move_aside, sync_directory, sync_file
from gpuctl_serving.index.durable.manifest import SnapshotInvalid, check_files, read_manifest, snapshots
from gpuctl_serving.index.durable.recovery import REBUILDING, TOOL, Place, mend
from gpuctl_serving.index.durable.replay import replay
from gpuctl_serving.index.failures import Damaged, load_failure
from gpuctl_serving.index.rows import Rows, Tail
from gpuctl_serving.index.schema import DATABASE, open_database
from gpuctl_serving.kit.errors import LoadFailed

FILES = [DATABASE, f"{DATABASE}-wal", f"{DATABASE}-shm"]


def can_rebuild(directory: Path) -> bool:
    """Whether there is anything at all to make a database from."""
    return bool(snapshots(directory)) or bool(scan.paths(directory))


def rebuild(place: Place, why: str) -> None:
    """Puts a new database in the place of a damaged or missing one, moved aside. Raises LoadFailed."""
    directory = place.directory
    segments = scan.scan_all(directory)
    try:
        source = _build(place, segments, why)
        sync_file(directory / REBUILDING / DATABASE)
        moved = move_aside(directory, FILES, why)
        (directory / REBUILDING / DATABASE).rename(directory / DATABASE)
        sync_directory(directory)
    finally:
        # Left on a full disk, it would be what fills it.
        shutil.rmtree(directory / REBUILDING, ignore_errors=True)
    report = place.report
    report.did, report.rebuilt_from, report.wants_snapshot = "rebuilt", source, True
    if moved is not None:
        report.moved_aside.append(str(moved))
    report.say(
        "database-rebuilt",
        f"The database could not be used ({why}); it was made again from {source} and "
        f"{report.replayed} changes of the log{f'. The old one is in {moved}' if moved else ''}.",
    )


def _build(place: Place, segments: list[scan.Segment], why: str) -> str:
    """Makes it beside the old one; from what."""
    built, source = _base(place, segments, why)
    try:
        _forward(place, built, segments, why)
        built.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    except sqlite3.Error as failure:
        raise load_failure(place.directory / REBUILDING / DATABASE, failure) from failure
    finally:
        built.close()
    return source


def _base(place: Place, segments: list[scan.Segment], why: str) -> tuple[sqlite3.Connection, str]:
    """A database to replay onto: a copy of the newest snapshot the log can bring forward, or an empty one."""
    newest, refused = scan.history(segments), list[str]()
    work = place.directory / REBUILDING
    for one in snapshots(place.directory):
        try:
            manifest = read_manifest(one)
            if newest is not None and bytes.fromhex(manifest.line) != newest.line:
                raise SnapshotInvalid(f"{one.name}: the log begins later")
            led = scan.history(segments, manifest.sequence)
            if led is not None and led.first - 1 > manifest.sequence:
                raise SnapshotInvalid(f"{one.name}: the log begins later")
            check_files(one, manifest, [DATABASE])
            shutil.rmtree(work, ignore_errors=True)
            work.mkdir(mode=0o700)
            shutil.copyfile(one / DATABASE, work / DATABASE)
            (work / DATABASE).chmod(0o600)
            return open_database(work, create=False, wait=False), f"snapshot {one.name}"
        except (SnapshotInvalid, Damaged) as unusable:
            refused.append(str(unusable))
            place.report.said.append(f"A snapshot could not be used: {unusable}.")
    if newest is None or not newest.begins:
        raise LoadFailed(_hopeless(place, why, newest, refused))
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(mode=0o700)
    return open_database(work, create=True), "the beginning"


def _hopeless(place: Place, why: str, newest: scan.History | None, refused: list[str]) -> str:
    log = "there is no log" if newest is None else f"the log reaches back to change {newest.first} only"
    tried = "; ".join(refused) or "there is no snapshot"
    return (
        f"The index database {place.database} is damaged ({why}) and cannot be made again: {log}; {tried}. "
        f"Restore a backup with `{TOOL} restore --index-dir {place.directory} --from BACKUP`, or index the "
        "documents again with `gpuctl index add`."
    )


def _forward(place: Place, built: sqlite3.Connection, segments: list[scan.Segment], why: str) -> None:
    tail = Rows(built).tail()
    found = scan.history(segments, tail.sequence if tail else 0)
    if found is None:
        return
    if found.trouble is not None:
        _decide(place, found, why)
    after = tail.sequence if tail else 0
    if tail is not None and (found.last < after or found.crc_at(after) != tail.crc):
        _no_chain(place, tail, found, why)
        return
    try:
        place.report.replayed = replay(built, found, after)
    except ValueError as wrong:
        raise LoadFailed(f"The log cannot be replayed: {wrong}. {_unsure(place, found)}") from wrong
    if tail is None and not place.report.replayed:
        rows = Rows(built)
        built.execute("BEGIN IMMEDIATE")
        rows.write_tail(found.line, found.last, found.segments[-1].crc)
        built.execute("COMMIT")


def _decide(place: Place, found: scan.History, why: str) -> None:
    """The database cannot vouch for the log here: anything but a torn append may hide a loss."""
    assert found.trouble is not None  # noqa: S101  the caller looked
    if (found.trouble.kind == "bad" or found.beyond) and not place.accept_loss:
        raise LoadFailed(
            f"The database and the log are both damaged ({why}; {found.trouble}). {_unsure(place, found)}"
        )
    mend(place, found)


def _no_chain(place: Place, tail: Tail, found: scan.History, why: str) -> None:
    """The snapshot is newer than what is left of the log."""
    if not place.accept_loss:
        raise LoadFailed(
            f"The database is damaged ({why}) and the log, which ends at change {found.last}, does not lead "
            f"on from the snapshot at change {tail.sequence}. {_unsure(place, found)}"
        )


def _unsure(place: Place, found: scan.History) -> str:
    return (
        "What was acknowledged after that is in no file, so nothing is served. Restore a backup with "
        f"`{TOOL} restore --index-dir {place.directory} --from BACKUP`, or give up what follows change "
        f"{found.last} with `{TOOL} rebuild --index-dir {place.directory} --accept-loss`."
    )
