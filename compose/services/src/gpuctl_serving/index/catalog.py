"""The copy in memory: one FAISS index for each namespace, shared by searches, changed by one thread."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from gpuctl_serving.index.engine import FlatIndex, Near
from gpuctl_serving.index.store import Change, as_matrix
from gpuctl_serving.index.vectors import Vectors


class Shared:
    """Many readers or one writer; a waiting writer goes before new readers."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._readers = 0
        self._writing = False
        self._waiting = 0

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Holds off writers."""
        with self._changed:
            self._changed.wait_for(lambda: not self._writing and not self._waiting)
            self._readers += 1
        try:
            yield
        finally:
            with self._changed:
                self._readers -= 1
                self._changed.notify_all()

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Holds off everybody."""
        with self._changed:
            self._waiting += 1
            self._changed.wait_for(lambda: not self._writing and not self._readers)
            self._waiting -= 1
            self._writing = True
        try:
            yield
        finally:
            with self._changed:
                self._writing = False
                self._changed.notify_all()


class Catalog:
    """What can be found in one generation."""

    def __init__(self, dimension: int) -> None:
        self.dimension = dimension
        self._lock = Shared()
        self._indexes: dict[int, FlatIndex] = {}
        self._ns_of: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._ns_of)

    @property
    def bytes(self) -> int:
        """Memory the vectors take, roughly."""
        return sum(index.bytes for index in list(self._indexes.values()))

    @property
    def namespaces(self) -> list[int]:
        """Numbers of the namespaces with vectors."""
        return list(self._indexes)

    def apply(self, changes: Sequence[Change]) -> None:
        """Makes every item what its change says it is."""
        kept = [change for change in changes if change.vector is not None]
        rows = as_matrix([change.vector for change in kept if change.vector], self.dimension)
        by_ns: dict[int, list[int]] = {}
        for at, change in enumerate(kept):
            by_ns.setdefault(change.ns or 0, []).append(at)
        with self._lock.writing():
            for change in changes:
                if change.vector is None and (ns := self._ns_of.pop(change.item, None)) is not None:
                    self._indexes[ns].remove(change.item)
            for ns, places in by_ns.items():
                index = self._indexes.setdefault(ns, FlatIndex(self.dimension))
                index.put([kept[at].item for at in places], rows[places])
                self._ns_of.update((kept[at].item, ns) for at in places)

    def search(
        self, ns: int, queries: Vectors, k: int, only: Sequence[int] | None, threads: int
    ) -> list[list[Near]]:
        """See FlatIndex.search."""
        with self._lock.reading():
            index = self._indexes.get(ns)
            return [[] for _ in queries] if index is None else index.search(queries, k, only, threads)
