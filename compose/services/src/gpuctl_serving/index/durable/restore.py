"""Puts a backup in the place of an index that nothing uses at the moment."""

import contextlib
import shutil
import sqlite3
import sys
from collections.abc import Iterator
from pathlib import Path

import orjson

from gpuctl_serving.index import archive
from gpuctl_serving.index.durable import manifest as manifests
from gpuctl_serving.index.durable.files import (
    aside_home,
    move_to,
    replace_synced,
    sync_directory,
    sync_file,
    unfinished,
)
from gpuctl_serving.index.durable.manifest import Manifest, SnapshotInvalid, check_files, read_manifest
from gpuctl_serving.index.durable.recovery import Place, begin_line
from gpuctl_serving.index.durable.saved import FOLDER as FAISS_FOLDER
from gpuctl_serving.index.durable.sealing import verify_rows
from gpuctl_serving.index.rows import Rows
from gpuctl_serving.index.schema import DATABASE, is_sealed, open_database
from gpuctl_serving.kit.errors import LoadFailed

#: While this file is there a restore is under way, or was interrupted: nothing may be served. It says where
#: what was there is moved to, so that the next start can put it back.
MARK = "RESTORING"
_WORK = ".restoring"
_PARTS = (*(f"{DATABASE}{suffix}" for suffix in ("", "-wal", "-shm")), "log", manifests.FOLDER)


class RestoreRefused(Exception):
    """Nothing was changed; the message says why and what to do."""


def restore(place: Place, backup: Path, *, generation: str, other_model: bool) -> Manifest:
    """Replaces the index by a backup (a directory, a tar archive, `-` for one on stdin).

    The caller holds the writer's lock. What was there is moved to `damaged/`; killed at any instant, the next
    start puts it back. Raises RestoreRefused.
    """
    # One that cannot be undone is replaced like anything else.
    with contextlib.suppress(LoadFailed):
        undo_interrupted(place)
    work = place.directory / _WORK
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True, mode=0o700)
    try:
        _obtain(backup, work)
        made = _checked(work)
        _same_model(place, made, generation, other_model=other_model)
        _put(place, work, made)
        return made
    except (ValueError, OSError, sqlite3.Error, SnapshotInvalid) as wrong:
        raise RestoreRefused(f"{backup} cannot be restored: {wrong}. Name another backup.") from wrong
    finally:
        shutil.rmtree(work, ignore_errors=True)


def check_not_restoring(directory: Path) -> None:
    """Raises LoadFailed while a restore is unfinished."""
    if (directory / MARK).exists():
        raise LoadFailed(
            f"A restore of {directory} is under way, or was interrupted. Wait for it; if it was interrupted, "
            "the next start of the index as its writer puts back what was there: `gpuctl deploy index`."
        )


def undo_interrupted(place: Place) -> None:
    """Puts back what a killed restore had moved aside. The caller holds the writer's lock."""
    mark = place.directory / MARK
    if not mark.exists():
        return
    try:
        told = orjson.loads(mark.read_bytes())
        home, moved = place.directory / told["aside"], set(told["parts"])
    except (ValueError, KeyError, TypeError) as wrong:
        raise LoadFailed(
            f"A restore of {place.directory} was interrupted, and {MARK} does not say what it moved: it may "
            "hold half of an index. Run it again: "
            f"`python -m gpuctl_serving.index.tool restore --index-dir {place.directory} --from BACKUP`."
        ) from wrong
    _put_back(place.directory, home, moved)
    place.report.say(
        "restore-undone",
        "A restore was interrupted before it was complete. What was there before it is in place again; "
        "run the restore again if it is still wanted.",
    )


def clear_interrupted(place: Place) -> None:
    """Removes what a killed restore had unpacked. The caller holds the writer's lock, and has undone it."""
    for left in (place.directory / _WORK, unfinished(place.directory / MARK)):
        if left.is_dir():
            shutil.rmtree(left)
        elif left.exists():
            left.unlink()
        else:
            continue
        place.report.said.append(f"What an interrupted restore left ({left.name}) was removed.")


def _put_back(directory: Path, home: Path, moved: set[str]) -> None:
    """Undoes `_put`; killed meanwhile, it can be done again."""
    for name in _PARTS:
        if name in moved and not (home / name).exists():
            continue  # Not moved yet, or put back already.
        shutil.rmtree(directory / name, ignore_errors=True)
        (directory / name).unlink(missing_ok=True)
        if name in moved:
            (home / name).rename(directory / name)
    sync_directory(directory)
    shutil.rmtree(home, ignore_errors=True)
    (directory / MARK).unlink()
    sync_directory(directory)


def _obtain(backup: Path, work: Path) -> None:
    if str(backup) == "-":
        archive.unpack(sys.stdin.buffer, work)
    elif backup.is_dir():
        for name in (manifests.MANIFEST, DATABASE):
            shutil.copyfile(backup / name, work / name)
        if (backup / FAISS_FOLDER).is_dir():
            shutil.copytree(backup / FAISS_FOLDER, work / FAISS_FOLDER)
    else:
        with backup.open("rb") as file:
            archive.unpack(file, work)


def _checked(work: Path) -> Manifest:
    made = read_manifest(work)
    check_files(work, made)
    connection = open_database(work, create=False, wait=False)
    try:
        verify_rows(connection)
        tail = Rows(connection).tail()
        if tail is None or (tail.line.hex(), tail.sequence) != (made.line, made.sequence):
            raise ValueError("its database is of another moment than its manifest says")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    finally:
        connection.close()
    return made


def _same_model(place: Place, made: Manifest, generation: str, *, other_model: bool) -> None:
    """The generation that is asked for, or else one that is there now, must be in the backup."""
    here = {generation} if generation else _generations(place)
    offered = {one.key for one in made.generations}
    if other_model or not here or not offered or here & offered:
        return
    raise RestoreRefused(
        f"The backup holds vectors of {', '.join(sorted(offered))}; this index is of "
        f"{', '.join(sorted(here))}. Vectors of different models cannot be compared. Restore another backup, "
        "or say --other-model and deploy the embedder of that model with it."
    )


def _generations(place: Place) -> set[str]:
    """Keys of the database that is there now; none when it cannot be read."""
    if not place.database.exists():
        return set()
    try:
        connection = sqlite3.connect(f"file:{place.database}?mode=ro", uri=True)
        try:
            return {key for (key,) in connection.execute("SELECT key FROM generations")}
        finally:
            connection.close()
    except sqlite3.Error:
        return set()


def _put(place: Place, work: Path, made: Manifest) -> None:
    directory = place.directory
    sync_file(work / DATABASE)
    with _alone(place):
        home = aside_home(directory)
        moved = [name for name in _PARTS if (directory / name).exists()]
        told = {"aside": str(home.relative_to(directory)), "parts": moved}
        replace_synced(directory / MARK, orjson.dumps(told))
        try:
            if moved:
                move_to(home, directory, moved, f"replaced by a backup of change {made.sequence}")
            (work / DATABASE).rename(directory / DATABASE)
            sync_directory(directory)
            _begin(place, made)
        except BaseException:
            _put_back(directory, home, set(moved))
            raise
        (directory / MARK).unlink()
        sync_directory(directory)
    if moved:
        place.report.moved_aside.append(str(home))


def _begin(place: Place, made: Manifest) -> None:
    connection = open_database(place.directory, create=False, wait=False)
    try:
        assert is_sealed(connection)  # noqa: S101  a backup's database always is
        begin_line(place, connection, made.sequence)
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    finally:
        connection.close()


@contextlib.contextmanager
def _alone(place: Place) -> Iterator[None]:
    """Nobody else has the database open: a follower would serve on from the file that is moved aside."""
    if not place.database.exists():
        yield
        return
    connection = sqlite3.connect(place.database, timeout=1, isolation_level=None)
    try:
        try:
            connection.execute("PRAGMA locking_mode=EXCLUSIVE")
            connection.execute("BEGIN EXCLUSIVE")
            connection.execute("ROLLBACK")
        except sqlite3.OperationalError as failure:
            if failure.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                raise RestoreRefused(
                    f"Another process reads {place.database}. Stop every index that uses it, then run this "
                    "again."
                ) from failure
        except sqlite3.DatabaseError:
            pass  # Damaged: nobody can use it, and it is to be replaced.
        yield
    finally:
        connection.close()
