"""Makes a snapshot: a copy of the database and of the FAISS indexes that a start or a restore can begin from.

Everything is written into a folder whose name begins with a dot, forced to disk, described by a manifest with
hashes, and only then renamed to its place: a snapshot is there completely or not at all.
"""

import contextlib
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import gpuctl_serving
from gpuctl_serving.index import engine
from gpuctl_serving.index.catalog import Catalog
from gpuctl_serving.index.durable import manifest as manifests
from gpuctl_serving.index.durable.files import (
    replace_synced,
    sha256_of,
    stamp,
    sync_directory,
    sync_file,
)
from gpuctl_serving.index.durable.manifest import Faiss, FileFacts, Manifest, Space
from gpuctl_serving.index.durable.retention import clear_old
from gpuctl_serving.index.durable.saved import FOLDER as FAISS_FOLDER
from gpuctl_serving.index.durable.sealing import verify_rows
from gpuctl_serving.index.live import Live
from gpuctl_serving.index.rows import Rows
from gpuctl_serving.index.schema import DATABASE, connect
from gpuctl_serving.kit.logs import Log

log = Log(__name__)

#: Pages of the database copied at once; requests are served between two pieces.
_PAGES = 512
#: Copies above this are not compared row by row while they are made.
_VERIFY_BYTES = 1 << 30

#: (phase, done, of)
Progress = Callable[[str, int, int], None]


class SnapshotFailed(Exception):
    """No snapshot was made; the message says why and what to do."""


@dataclass(frozen=True)
class Source:
    """What a snapshot is made of."""

    directory: Path
    #: None: nothing is loaded, the database alone is copied.
    live: Live | None
    #: Returns once everything in the log is on disk.
    sync_log: Callable[[], None]


def take(source: Source, keep: int, progress: Progress) -> tuple[Path, Manifest]:
    """Makes a snapshot in the index's own directory, and removes what the new one makes superfluous."""
    folder = source.directory / manifests.FOLDER
    work = folder / f"{manifests.UNFINISHED}making-{stamp()}"
    with _whole_or_not(work):
        folder.mkdir(exist_ok=True, mode=0o700)
        made = _write(source, work, progress)
        place = folder / f"{made.sequence:020d}-{stamp()}"
        work.rename(place)
        sync_directory(folder)
    try:
        replace_synced(folder / manifests.CURRENT, place.name.encode())
    except OSError as failure:
        raise SnapshotFailed(
            f"The snapshot {place.name} is whole, but {manifests.CURRENT} cannot name it: "
            f"{failure.strerror or failure}. Free space there, then make another."
        ) from failure
    progress("removing what is superfluous", 0, 1)
    clear_old(source.directory, bytes.fromhex(made.line), keep)
    return place, made


def copy_to(source: Source, target: Path, progress: Progress) -> Manifest:
    """Makes a snapshot as a folder of its own, which must not be there yet."""
    if target.exists() and any(target.iterdir()):
        raise SnapshotFailed(f"{target} is not empty. Name a directory that does not exist yet.")
    work = target.with_name(f"{manifests.UNFINISHED}{target.name}-{stamp()}")
    with _whole_or_not(work):
        target.parent.mkdir(parents=True, exist_ok=True)
        made = _write(source, work, progress)
        work.rename(target)
        sync_directory(target.parent)
        return made


@contextlib.contextmanager
def _whole_or_not(work: Path) -> Iterator[None]:
    """Leaves nothing of a snapshot that fails, and says why."""
    try:
        yield
    except BaseException as failure:
        shutil.rmtree(work, ignore_errors=True)
        if isinstance(failure, OSError):
            raise SnapshotFailed(
                f"No snapshot was made: {failure.strerror or failure} ({work.parent}). Free space "
                "there, then try again."
            ) from failure
        if isinstance(failure, sqlite3.Error):
            raise SnapshotFailed(
                f"No snapshot was made: the database cannot be copied ({failure})."
            ) from failure
        raise


def _write(source: Source, work: Path, progress: Progress) -> Manifest:
    work.mkdir(mode=0o700)
    # The index first: the database copied after it can only be newer, and leads it on.
    faiss = _save_faiss(source, work, progress)
    _copy_database(source.directory, work / DATABASE, progress)
    source.sync_log()
    made = _describe(work, faiss, progress)
    manifests.write_manifest(work, made)
    sync_directory(work)
    return made


def _save_faiss(source: Source, work: Path, progress: Progress) -> Faiss | None:
    live = source.live
    catalog, generation = (live.catalog, live.generation) if live is not None else (None, None)
    if live is None or catalog is None or generation is None or not catalog.namespaces:
        return None
    progress("saving the index", 0, 1)
    folder, sequence = work / FAISS_FOLDER, live.applied
    folder.mkdir(mode=0o700)
    names = catalog.save(folder)
    newest = _sequence_of(source.directory)
    if live.catalog is not catalog:
        shutil.rmtree(folder)
        return None
    return Faiss(
        version=engine.version(),
        generation=generation.key,
        dimension=generation.dimension,
        metric="cosine",
        type=max(catalog.indexes.values(), key=len).plan.kind,
        sequence=sequence,
        newest=newest,
        files=[f"{FAISS_FOLDER}/{name}" for name in names],
        parameters={"namespaces": shapes(catalog)},
    )


def shapes(catalog: Catalog) -> dict[str, Any]:
    """Type and parameters of each namespace's index, as a manifest says them."""
    return {
        str(ns): {"type": index.plan.kind, "nlist": index.plan.nlist, "m": index.plan.m}
        for ns, index in catalog.indexes.items()
    }


def _sequence_of(directory: Path) -> int:
    connection = connect(directory, writable=False)
    try:
        row = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'log'").fetchone()
        return int(row[0]) if row else 0
    finally:
        connection.close()


def _copy_database(directory: Path, to: Path, progress: Progress) -> None:
    source, target = connect(directory, writable=False), sqlite3.connect(to, isolation_level=None)
    try:
        # One read transaction: writes go on beside it, and the copy is of the moment it began.
        source.execute("BEGIN")
        source.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        target.execute("PRAGMA synchronous=OFF")
        source.backup(
            target,
            pages=_PAGES,
            progress=lambda _, left, of: progress("copying the database", of - left, of),
            sleep=0.0,
        )
        # No files beside it: the copy is all there is.
        target.execute("PRAGMA journal_mode=DELETE")
        target.execute("PRAGMA journal_mode=WAL")
        if to.stat().st_size <= _VERIFY_BYTES:
            progress("comparing the copy", 0, 1)
            (verdict,) = target.execute("PRAGMA quick_check(1)").fetchone()
            if verdict != "ok":
                raise SnapshotFailed(_damaged(verdict))
            try:
                verify_rows(target)
            except (ValueError, TypeError) as wrong:
                raise SnapshotFailed(_damaged(str(wrong))) from wrong
    finally:
        source.close()
        target.close()
    for beside in (f"{to}-wal", f"{to}-shm"):
        Path(beside).unlink(missing_ok=True)
    to.chmod(0o600)


def _damaged(what: str) -> str:
    return (
        f"No snapshot was made: the database is damaged ({what}). Restart the index: it makes its database "
        "again from the last snapshot and the log."
    )


def _describe(work: Path, faiss: Faiss | None, progress: Progress) -> Manifest:
    files = sorted(path for path in work.rglob("*") if path.is_file())
    facts: dict[str, FileFacts] = {}
    for at, path in enumerate(files):
        progress("forcing to disk", at, len(files))
        sync_file(path)
        facts[str(path.relative_to(work))] = FileFacts(sha256_of(path), path.stat().st_size)
    for folder in (one for one in work.iterdir() if one.is_dir()):
        sync_directory(folder)
    connection = sqlite3.connect(f"file:{work / DATABASE}?mode=ro&immutable=1", uri=True)
    try:
        tail = Rows(connection).tail()
        if tail is None:
            raise SnapshotFailed("No snapshot was made: the database has no log yet. Restart the index.")
        do = connection.execute
        counts = dict(
            do(
                "SELECT n.name, count(*) FROM items i JOIN namespaces n ON n.ns = i.ns GROUP BY n.ns"
            ).fetchall()
        )
        spaces = [
            Space(*row)
            for row in do(
                "SELECT key, dimension, (SELECT count(*) FROM vectors v JOIN items i ON i.item = v.item AND "
                "i.sequence = v.sequence WHERE v.gen = generations.gen) FROM generations ORDER BY gen"
            )
        ]
    finally:
        connection.close()
    now = datetime.now(UTC)
    return Manifest(
        format=manifests.FORMAT,
        line=tail.line.hex(),
        sequence=tail.sequence,
        crc=tail.crc,
        created_at=now.isoformat(timespec="seconds"),
        created=time.time(),
        version=gpuctl_serving.__version__,
        items=sum(counts.values()),
        namespaces=counts,
        generations=spaces,
        files=facts,
        faiss=faiss,
    )
