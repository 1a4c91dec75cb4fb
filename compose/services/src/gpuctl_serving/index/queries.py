"""Searching: filter, FAISS, documents, order."""

from typing import Any

from gpuctl_serving.index.ann.near import Near
from gpuctl_serving.index.catalog import Catalog
from gpuctl_serving.index.core import Core
from gpuctl_serving.index.reader import Document
from gpuctl_serving.index.vectors import Vectors

Hit = dict[str, Any]

#: A search whose finds were deleted under it looks again, so often.
_LOOKS = 3


def search(
    core: Core, catalog: Catalog, namespace: str, queries: Vectors, k: int, wanted: dict[str, Any]
) -> list[list[Hit]]:
    """The best k of each query, by score, then id. Blocking."""
    for look in range(_LOOKS):
        with core.readers.snapshot() as snapshot:
            ns = snapshot.namespace(namespace)
            only = snapshot.matching(ns, wanted) if wanted and ns is not None else None
        if ns is None:
            return [[] for _ in queries]
        found = catalog.search(ns, queries, k, only, core.threads)
        # A new snapshot: what was found is at least as old as it.
        with core.readers.snapshot() as snapshot:
            documents = snapshot.documents(sorted({near.item for row in found for near in row}))
        if look == _LOOKS - 1 or all(near.item in documents for row in found for near in row):
            break
    return [_best(row, documents, k) for row in found]


def _best(row: list[Near], documents: dict[int, Document], k: int) -> list[Hit]:
    known = [(near.score, documents[near.item]) for near in row if near.item in documents]
    known.sort(key=lambda pair: (-pair[0], pair[1].id))
    return [
        {"id": one.id, "score": score, "text": one.text, "metadata": one.metadata} for score, one in known[:k]
    ]
