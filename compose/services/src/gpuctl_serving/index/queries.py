"""Searching: filter, nearest vectors, what comes with them, order. Blocking; no HTTP."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import orjson

from gpuctl_serving.index.ann.near import BY_DEFAULT, Effort, Finds, Items
from gpuctl_serving.index.catalog import Catalog
from gpuctl_serving.index.core import Core
from gpuctl_serving.index.ids import ItemId, order
from gpuctl_serving.index.reader import Snapshot
from gpuctl_serving.index.requests import Encoding, Include
from gpuctl_serving.index.vectors import Vectors, as_base64

Hit = dict[str, Any]
#: What puts a find in its place: its score, negated, and its item.
Ranked = tuple[float, int]

#: A search whose finds were deleted or filtered out under it looks again, so often.
_LOOKS = 3
_EVERYTHING: tuple[Include, ...] = ("text", "metadata")


@dataclass(frozen=True)
class Asked:
    """What a search wants beside its vectors. Searches that ask the same can be answered together."""

    namespace: str
    k: int
    include: tuple[Include, ...] = _EVERYTHING
    encoding: Encoding = "float"
    effort: Effort = BY_DEFAULT
    wanted: dict[str, Any] = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class Answer:
    """The hits of each query, and the device that found them."""

    device: str
    hits: list[list[Hit]]


def search(core: Core, catalog: Catalog, asked: Asked, queries: Vectors, threads: int) -> Answer:
    """The best k of each query, by score, then id."""
    device = "cpu"
    for look in range(_LOOKS):
        with core.readers.snapshot() as snapshot:
            ns = snapshot.namespace(asked.namespace)
            only = snapshot.matching(ns, asked.wanted) if asked.wanted and ns is not None else None
        if ns is None:
            return Answer(device, [[] for _ in queries])
        upto = core.live.upto(catalog)
        device, found = catalog.search_on(ns, queries, asked.k, only, threads, asked.effort)
        last = look == _LOOKS - 1
        # What was found beyond the best stands in for what was deleted meanwhile, once that has been tried.
        best = found if last else [finds.best(asked.k) for finds in found]
        items = np.concatenate([finds.items for finds in best])
        # A new snapshot: what was found is at least as old as it.
        with core.readers.snapshot() as snapshot:
            # What changed since it was filtered is not answered with metadata that was not asked for.
            matching = items if only is None else _matching(snapshot, ns, asked, items)
            ids = core.found_ids.of(snapshot, matching, there=snapshot.sequence() == upto)
            if not last and len(ids) < len(set(items.tolist())):
                continue
            ranked = [_rank(finds, ids, asked.k) for finds in best]
            kept = sorted({item for row in ranked for _, item in row}) if asked.include else []
            bodies = describe(core, snapshot, kept, asked.include, asked.encoding)
        break
    return Answer(device, [_hits(row, ids, bodies) for row in ranked])


def _matching(snapshot: Snapshot, ns: int, asked: Asked, items: Items) -> Items:
    return np.array(snapshot.matching(ns, asked.wanted, np.unique(items).tolist()), dtype=np.int64)


def describe(
    core: Core, snapshot: Snapshot, items: Sequence[int], include: Sequence[Include], encoding: Encoding
) -> dict[int, tuple[str, dict[str, Any]]]:
    """(stored id, what was asked for) of the items that are still there."""
    columns = [name for name in ("text", "metadata") if name in include]
    rows = snapshot.columns(items, columns)
    bodies = {
        item: (name, {column: _value(column, value) for column, value in zip(columns, values, strict=True)})
        for item, (name, *values) in rows.items()
    }
    if "vector" in include:
        for item, vector in _vectors(core, items):
            if item in bodies:
                key = "vectorBase64" if encoding == "base64" else "vector"
                bodies[item][1][key] = as_base64(vector) if encoding == "base64" else vector
    return bodies


def _value(column: str, value: Any) -> Any:
    # The database's JSON goes out as it is.
    return orjson.Fragment(value) if column == "metadata" else value


def _vectors(core: Core, items: Sequence[int]) -> list[tuple[int, Vectors]]:
    catalog = core.live.catalog
    if catalog is None:
        return []
    named, rows = catalog.truth.of(items)
    return list(zip(named.tolist(), rows, strict=True))


def _rank(finds: Finds, ids: dict[int, ItemId], k: int) -> list[Ranked]:
    """The best `k` of what is still there, by score, then id."""
    row = sorted(zip((-finds.scores).tolist(), finds.items.tolist(), strict=True))
    row = [one for one in row if one[1] in ids]
    if len({score for score, _ in row}) < len(row):
        row.sort(key=lambda one: (one[0], order(ids[one[1]])))
    return row[:k]


def _hits(
    row: list[Ranked], ids: dict[int, ItemId], bodies: dict[int, tuple[str, dict[str, Any]]]
) -> list[Hit]:
    if not bodies:
        return [{"id": ids[item], "score": -score} for score, item in row]
    return [{"id": ids[item], "score": -score, **bodies[item][1]} for score, item in row]
