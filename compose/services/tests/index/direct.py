"""The index without HTTP, for tests that do thousands of steps or die in the middle of one."""

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gpuctl_serving.index import queries
from gpuctl_serving.index.core import Core
from gpuctl_serving.index.lock import Holder
from gpuctl_serving.index.messages import Write
from gpuctl_serving.index.settings import IndexSettings
from gpuctl_serving.index.store import NewItem, Store
from gpuctl_serving.index.vectors import Vectors, unit


def open_core(
    directory: Path, *, name: str = "direct", generation: str = "g", dimension: int = 3, **more: Any
) -> Core:
    """A loaded core of one generation; `more` are settings."""
    settings = IndexSettings(
        index_dir=directory, index_generation=generation, index_dimension=dimension, **more
    )
    return Core.open(settings, Holder(name, os.getpid()), lambda: True)


def close(core: Core) -> None:
    """Ends its threads and gives the lock back."""
    core.promoter.stop()
    if core.replica is not None:
        core.replica.stop()
    core.worker.stop()
    core.pool.shutdown()
    core.readers.close()


def unit_vector(values: Sequence[float]) -> Vectors:
    """A unit vector as the API would store it."""
    return unit(np.asarray(values, dtype=np.float32), "vector")


def item(
    name: str, values: Sequence[float], metadata: dict[str, Any] | None = None, key: str = "g"
) -> NewItem:
    """One item with a vector of generation `key`."""
    return NewItem(name, f"text of {name}", metadata or {}, {key: unit_vector(values)})


def add(core: Core, items: Sequence[NewItem], *, namespace: str = "default", upsert: bool = True) -> Any:
    """Commits an add and waits for it."""

    def work(store: Store) -> tuple[int, int]:
        return store.add(namespace, items, upsert=upsert)

    return core.worker.write(Write(work, time.monotonic() + 30)).result(30)


def delete(core: Core, ids: Sequence[str], *, namespace: str = "default") -> Any:
    """Commits a delete and waits for it."""
    return core.worker.write(Write(lambda store: store.delete(namespace, ids), time.monotonic() + 30)).result(
        30
    )


def search(
    core: Core,
    values: Sequence[float],
    k: int,
    wanted: dict[str, Any] | None = None,
    namespace: str = "default",
) -> list[tuple[str, float]]:
    """(id, score) of one search."""
    if core.live.catalog is None:
        return []
    rows = unit_vector(values).reshape(1, -1)
    asked = queries.Asked(namespace, k, wanted=wanted or {})
    hits = queries.search(core, core.live.catalog, asked, rows, core.threads).hits[0]
    return [(hit["id"], hit["score"]) for hit in hits]
