"""What a job does: give space back, make the indexes again, look for damage, copy everything away."""

import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from gpuctl_serving.index.catalog import Catalog
from gpuctl_serving.index.core import Core
from gpuctl_serving.index.durable import retention, snapshot
from gpuctl_serving.index.durable.sealing import verify_rows
from gpuctl_serving.index.messages import Elsewhere, Write
from gpuctl_serving.index.schema import DATABASE, connect
from gpuctl_serving.index.store import Store
from gpuctl_serving.kit.errors import unavailable

Progress = Callable[[str, int, int], None]

_SWEEP = 5000
#: Pages given back between two commits.
_PAGES = 1024
_SECONDS = 60.0
_REBUILD_SECONDS = 3600.0
#: Vectors whose neighbours are compared with an exact search.
_SAMPLES = 32
_K = 10


def compact(core: Core, progress: Progress) -> dict[str, Any]:
    """Gives back what deleted rows, forgotten generations and old changes take."""
    before = _bytes(core)
    swept = 0
    while gone := _write(core, lambda store: store.sweep(_SWEEP)):
        swept += gone
        progress("removing vectors of forgotten generations", swept, 0)
    free = core.worker.call(lambda: _free_pages(core)).result(_SECONDS)
    while (left := core.worker.call(lambda: _give_back(core)).result(_SECONDS)) > 0:
        progress("giving pages back", free - left, free)
    core.worker.call(lambda: _checkpoint(core)).result(_SECONDS)
    progress("done", 1, 1)
    return {"bytesBefore": before, "bytesAfter": _bytes(core), "sweptVectors": swept, "freedPages": free}


def _write(core: Core, work: Callable[[Store], int]) -> int:
    result = core.worker.write(Write(work, time.monotonic() + _SECONDS)).result(_SECONDS)
    if isinstance(result, Elsewhere):
        raise unavailable("This instance is not the writer any more. Ask the one that is.")
    return int(result)


def _bytes(core: Core) -> int:
    return sum(path.stat().st_size for path in core.settings.index_dir.glob(f"{DATABASE}*"))


def _free_pages(core: Core) -> int:
    do = core.live.store.connection.execute
    if not do("PRAGMA auto_vacuum").fetchone()[0]:
        # Made by an earlier release: once as a whole, from then on in pieces.
        do("PRAGMA auto_vacuum=INCREMENTAL")
        # A second copy of everything, for once: too much for memory.
        do("PRAGMA temp_store=FILE")
        do("VACUUM")
        do("PRAGMA temp_store=MEMORY")
    return int(do("PRAGMA freelist_count").fetchone()[0])


def _give_back(core: Core) -> int:
    do = core.live.store.connection.execute
    do(f"PRAGMA incremental_vacuum({_PAGES})").fetchall()
    return int(do("PRAGMA freelist_count").fetchone()[0])


def _checkpoint(core: Core) -> None:
    core.live.store.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


def rebuild(core: Core, progress: Progress) -> dict[str, Any]:
    """Makes every namespace's FAISS index again from the stored vectors; the old ones serve meanwhile."""
    catalog, promoter = core.live.catalog, core.promoter
    if catalog is None or not catalog.namespaces:
        return {"namespaces": 0, "vectors": 0}
    wanted, failed = set(catalog.namespaces), promoter.counts["failed"]
    promoter.ask(wanted)
    until = time.monotonic() + _REBUILD_SECONDS
    while left := promoter.asked & wanted:
        if time.monotonic() > until or not promoter.is_alive():
            raise TimeoutError("the indexes were not made again in time; the old ones serve on")
        work = promoter.work
        progress(work.phase if work else "waiting", len(wanted) - len(left), len(wanted))
        time.sleep(0.02)
    if promoter.counts["failed"] > failed:
        raise RuntimeError(promoter.failure or "an index could not be made again; the old one serves on")
    return {"namespaces": len(wanted), "vectors": len(catalog)}


def verify(core: Core, progress: Progress) -> dict[str, Any]:
    """Reads everything there is and compares: hashes, checksums, counts, and what searches find."""
    findings: list[str] = []
    progress("comparing rows with their checksums", 0, 3)
    rows = verify_database(core.settings.index_dir, findings)
    progress("reading the log and the snapshots", 1, 3)
    findings += retention.verify(core.settings.index_dir)
    progress("comparing the index in memory", 2, 3)
    memory = _memory(core, findings)
    return {"ok": not findings, "findings": findings, **rows, **memory}


def verify_database(directory: Path, findings: list[str]) -> dict[str, Any]:
    """Compares rows with their checksums and indexes with their tables; adds what is wrong to `findings`."""
    connection = connect(directory, writable=False)
    try:
        connection.execute("BEGIN")
        (verdict,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
        if verdict != "ok":
            findings.append(f"database: {verdict}")
        unsealed = verify_rows(connection)
        (items,) = connection.execute("SELECT count(*) FROM items").fetchone()
        return {"items": items, "withoutChecksum": unsealed}
    except (ValueError, TypeError, sqlite3.Error) as wrong:
        findings.append(f"database: {wrong}")
        return {}
    finally:
        connection.close()


def _memory(core: Core, findings: list[str]) -> dict[str, Any]:
    live = core.live
    catalog, generation = live.catalog, live.generation
    if catalog is None or generation is None:
        return {"vectors": 0, "recall": None}
    # Between two commits memory and database must agree to the item.
    counted, stored = core.worker.call(
        lambda: (len(catalog), live.store.current_vectors(generation.gen))
    ).result(_SECONDS)
    if counted != stored:
        findings.append(f"memory: {counted} vectors can be found, the database holds {stored}")
    recall = _recall(core, catalog)
    if recall is not None and recall < core.settings.index_recall - 0.1:
        findings.append(f"memory: recall@{_K} of {_SAMPLES} stored vectors is {recall}")
    return {"vectors": counted, "recall": recall}


def _recall(core: Core, catalog: Catalog) -> float | None:
    """Share of the true nearest neighbours that searches for stored vectors find."""
    shares = []
    for ns in catalog.namespaces:
        queries = best = np.empty((0, 0), dtype=np.float32)
        for _, rows in catalog.truth.every(ns):
            if not len(queries):
                picked = np.linspace(0, len(rows) - 1, min(_SAMPLES, len(rows))).astype(int)
                queries, best = rows[picked], np.empty((len(picked), 0), dtype=np.float32)
            best = np.sort(np.hstack([best, queries @ rows.T]), axis=1)[:, -_K:]
        if not len(queries):
            continue
        for near, exact in zip(catalog.search(ns, queries, _K, None, core.threads), best, strict=True):
            scores = sorted((one.score for one in near), reverse=True)[: len(exact)]
            # By score: of items equally near any is right.
            shares.append(sum(score >= exact[0] - 1e-4 for score in scores) / len(exact))
    return round(float(np.mean(shares)), 4) if shares else None


def backup(source: snapshot.Source, target: Path, progress: Progress) -> dict[str, Any]:
    """Copies everything into a directory that a restore can begin from."""
    made = snapshot.copy_to(source, target, progress)
    return {
        "directory": str(target),
        "sequence": made.sequence,
        "items": made.items,
        "generations": [one.key for one in made.generations],
        "bytes": sum(one.bytes for one in made.files.values()),
    }
