"""What the index says about itself: stats, `/info`, `/private/index`, and its proof."""

import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from gpuctl_serving.index import engine
from gpuctl_serving.index.ann.ivf import IvfIndex
from gpuctl_serving.index.ann.near import Effort
from gpuctl_serving.index.ann.plan import FLAT
from gpuctl_serving.index.ann.replica.told import Told
from gpuctl_serving.index.catalog import Catalog
from gpuctl_serving.index.core import Core
from gpuctl_serving.index.durable import scan
from gpuctl_serving.index.reader import Snapshot
from gpuctl_serving.index.schema import DATABASE
from gpuctl_serving.index.store import Generation
from gpuctl_serving.index.vectors import Vectors

_LOOKS = 3
#: (queries, k) run by a warm-up; the last is the worst a client usually sends.
WARMUP_SHAPES = ((1, 10), (1, 100), (32, 30), (64, 100))


def gpu(told: Told) -> dict[str, Any]:
    """Whether a GPU searches, and why not."""
    in_use = told.state == "searching"
    return {"inUse": in_use, "reason": None if in_use else told.detail}


def stats(core: Core) -> dict[str, Any]:
    """The body of `GET stats`. Blocking."""
    live = core.live
    with core.readers.snapshot() as snapshot:
        generations = snapshot.generations()
        counts, names = snapshot.counts(), snapshot.namespaces()
        own = next((one for one in generations if one.key == live.key), None)
        lacking = _lacking(core, snapshot, own, sum(counts.values()))
        sequence, database = snapshot.sequence(), snapshot.database_bytes()
    catalog, told = live.catalog, core.told
    wal = Path(core.settings.index_dir / f"{DATABASE}-wal")
    return {
        "device": told.searcher,
        "gpu": gpu(told),
        "replica": core.replica.facts(told) if core.replica else told.body(),
        "indexType": index_type(catalog),
        "configuredIndexType": core.settings.index_type,
        "recallTarget": core.settings.index_recall,
        "indexes": _indexes(core, names),
        "promotion": core.promoter.facts(),
        "metric": "cosine",
        "dimension": live.dimension,
        "generation": live.key,
        "generations": [one.key for one in generations],
        "items": sum(counts.values()),
        "namespaces": counts,
        "vectors": len(catalog) if catalog else 0,
        "missing": lacking[0],
        "unembeddable": lacking[1],
        "sequence": live.applied,
        "lag": max(0, sequence - live.applied),
        "writer": core.is_writer,
        "role": core.worker.role,
        "bytes": {
            "database": database,
            "wal": wal.stat().st_size if wal.exists() else 0,
            "memory": catalog.bytes if catalog else 0,
        },
        "durability": durability(core),
        "engine": {"name": "faiss", "version": engine.version(), "threads": core.threads},
    }


def durability(core: Core) -> dict[str, Any]:
    """What an acknowledgement rests on, and what the last start had to do."""
    journal, settings = core.live.journal, core.settings
    folder = settings.index_dir / scan.FOLDER
    return {
        "fsync": settings.index_fsync,
        "fsyncMs": settings.index_fsync_ms if settings.index_fsync == "interval" else 0,
        "state": "follower" if journal is None else "stopped" if journal.broken else "writing",
        "reason": journal.broken if journal is not None else None,
        "logBytes": sum(path.stat().st_size for path in folder.glob(f"*{scan.SUFFIX}")),
        "recovery": core.place.report.body(),
        **(core.maintenance.facts() if core.maintenance is not None else {}),
    }


def index_type(catalog: Catalog | None) -> str:
    """The type that serves; of several namespaces with different ones, that of the largest."""
    indexes = list(catalog.indexes.values()) if catalog else []
    return max(indexes, key=len).plan.kind if indexes else FLAT.kind


def recall(core: Core) -> float:
    """The lowest recall that was measured for the target's number of lists; 1 when all is exact."""
    catalog = core.live.catalog
    indexes = catalog.indexes.values() if catalog else ()
    target = core.settings.index_recall
    return min(
        (one.recall.at(one.recall.probe_for(target)) for one in indexes if isinstance(one, IvfIndex)),
        default=1.0,
    )


def trained(core: Core) -> bool:
    """Whether every namespace has the type its size or the settings ask for."""
    catalog = core.live.catalog
    indexes = catalog.indexes if catalog else {}
    return all(core.promoter.reason(catalog, *one) is None for one in indexes.items() if catalog)


def _indexes(core: Core, names: dict[int, str]) -> dict[str, Any]:
    """Namespace -> its index: type, parameters, what it is measured to find, and why it is not another."""
    catalog = core.live.catalog
    if catalog is None:
        return {}
    effort = Effort(recall=core.settings.index_recall)
    found = {}
    for ns, index in catalog.indexes.items():
        said: dict[str, Any] = {"vectors": len(index), **index.facts()}
        if isinstance(index, IvfIndex):
            said["nprobe"] = index.probes(effort)
            said["recallProbe"] = index.recall.at(said["nprobe"])
        else:
            said["recallProbe"] = 1.0
        said["reason"] = core.promoter.reason(catalog, ns, index)
        found[names.get(ns, str(ns))] = said
    return found


def _lacking(core: Core, snapshot: Snapshot, own: Generation | None, items: int) -> tuple[int, int]:
    """(items to embed, items without a text) that searches cannot find."""
    if own is None:
        return 0, items
    # Counting them reads every row; when memory has all of them, there are none.
    catalog = core.live.catalog
    if catalog is not None and len(catalog) == items:
        return 0, 0
    return snapshot.lacking(own.gen)


def private_index(core: Core) -> dict[str, Any]:
    """The body of `GET /private/index`. Blocking."""
    live = core.live
    with core.readers.snapshot() as snapshot:
        sequence = snapshot.sequence()
        return {
            "writer": core.is_writer,
            "role": core.worker.role,
            "sequence": live.applied,
            "generation": live.key,
            "lag": max(0, sequence - live.applied),
            "items": sum(snapshot.counts().values()),
            "generations": [
                {
                    "key": one.key,
                    "dimension": one.dimension,
                    "vectors": snapshot.current_vectors(one.gen),
                    "missing": snapshot.lacking(one.gen)[0],
                }
                for one in snapshot.generations()
            ],
        }


def proof(core: Core) -> dict[str, Any]:
    """The body of `POST /private/proof`: a tiny index with a known answer, then the live one.

    The device is the one that always answers. A GPU's copy comes and goes, so it is told beside it, and
    named among the providers when the live vector was found by it.
    """
    right, score, detail = engine.canary()
    providers = ["faiss-cpu"]
    for _ in range(_LOOKS if right else 0):
        found = _find_newest(core)
        if found is None:
            break
        right, score, on = found
        count = len(core.live.catalog or ())
        detail = f"{detail}; the newest of {count} vectors finds itself on {on} with {score}"
        providers = ["faiss-cpu"] if on == "cpu" else ["faiss-cpu", "faiss-gpu"]
        if right:
            break
    return {
        "device": "cpu",
        "level": "self",
        "providers": providers,
        "replica": core.told.body(),
        "canary": {"ok": right, "similarity": score, "detail": detail},
    }


def _find_newest(core: Core) -> tuple[bool, float, str] | None:
    live = core.live
    if live.generation is None or live.catalog is None:
        return None
    with core.readers.snapshot() as snapshot:
        newest = snapshot.newest_vector(live.generation.gen, live.applied)
    if newest is None:
        return None
    ns, blob = newest
    query = np.frombuffer(blob, dtype="<f4").reshape(1, -1)
    on, rows = live.catalog.search_on(ns, query, 1, None, core.threads)
    score = max((near.score for near in rows[0]), default=0.0)
    return score > 0.99999, score, on


def warmup(core: Core) -> dict[str, Any]:
    """Searches every usual shape once more. Blocking."""
    live, shapes = core.live, []
    random = np.random.default_rng(7)
    for queries, k in WARMUP_SHAPES:
        began = time.perf_counter()
        if live.catalog is not None:
            rows: Vectors = random.standard_normal((queries, live.catalog.dimension)).astype(np.float32)
            rows /= np.linalg.norm(rows, axis=1, keepdims=True)
            search = partial(live.catalog.search, queries=rows, k=k, only=None, threads=core.threads)
            for ns in live.catalog.namespaces:
                search(ns)
        ms = round((time.perf_counter() - began) * 1000, 3)
        shapes.append({"texts": queries, "tokens": 0, "queries": queries, "k": k, "ms": ms})
    return {"shapes": shapes}
