"""Puts a backup in the place of an index that nothing uses at the moment."""

import shutil
import sqlite3
import sys
from pathlib import Path

from gpuctl_serving.index import archive
from gpuctl_serving.index.durable import manifest as manifests
from gpuctl_serving.index.durable.files import move_aside, sync_directory, sync_file, write_synced
from gpuctl_serving.index.durable.manifest import Manifest, SnapshotInvalid, check_files, read_manifest
from gpuctl_serving.index.durable.recovery import Place, begin_line
from gpuctl_serving.index.durable.saved import FOLDER as FAISS_FOLDER
from gpuctl_serving.index.durable.sealing import verify_rows
from gpuctl_serving.index.rows import Rows
from gpuctl_serving.index.schema import DATABASE, is_sealed, open_database
from gpuctl_serving.kit.errors import LoadFailed

#: While this file is there a restore is under way, or was interrupted: nothing may be served.
MARK = "RESTORING"
_WORK = ".restoring"


class RestoreRefused(Exception):
    """Nothing was changed; the message says why and what to do."""


def restore(place: Place, backup: Path, *, generation: str, other_model: bool) -> Manifest:
    """Replaces the index by a backup (a directory, a tar archive, `-` for one on stdin).

    The caller holds the writer's lock. What was there is moved to `damaged/`. Raises RestoreRefused.
    """
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
            f"A restore of {directory} was interrupted, so it may hold half of an index. Run it again: "
            f"`python -m gpuctl_serving.index.tool restore --index-dir {directory} --from BACKUP`."
        )


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
    write_synced(directory / MARK, b"")
    sync_directory(directory)
    names = [f"{DATABASE}{suffix}" for suffix in ("", "-wal", "-shm")] + ["log", manifests.FOLDER]
    moved = move_aside(directory, names, f"replaced by a backup of change {made.sequence}")
    if moved is not None:
        place.report.moved_aside.append(str(moved))
    (work / DATABASE).rename(directory / DATABASE)
    sync_directory(directory)
    connection = open_database(directory, create=False, wait=False)
    try:
        assert is_sealed(connection)  # noqa: S101  a backup's database always is
        begin_line(place, connection, made.sequence)
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    finally:
        connection.close()
    (directory / MARK).unlink()
    sync_directory(directory)
