"""The copy in memory: one index for each namespace, shared by searches, changed by one thread at a time."""

import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from gpuctl_serving.index.ann import files
from gpuctl_serving.index.ann.flat import FlatIndex
from gpuctl_serving.index.ann.near import BY_DEFAULT, NOTHING, Effort, Finds, Items, Truth, VectorIndex
from gpuctl_serving.index.ann.numbers import NumberMap
from gpuctl_serving.index.ann.plan import FLAT
from gpuctl_serving.index.ann.replica.delta import Delta
from gpuctl_serving.index.shared import Shared
from gpuctl_serving.index.store import Change
from gpuctl_serving.index.vectors import Vectors, as_matrix

#: Items that are brought up to date at once.
_PIECE = 2048


class Replica(Protocol):
    """A device that may know candidates sooner than the CPU."""

    @property
    def device(self) -> str:
        """Its name in answers."""

    def candidates(self, delta: Delta, ns: int, queries: Vectors, k: int, effort: Effort) -> Items | None:
        """Items for each query, of the copy; None when the CPU has to answer."""


class NoTruth:
    """For a catalog that never quantises: there is nothing to ask for true vectors."""

    def of(self, items: Sequence[int]) -> tuple[Items, Vectors]:
        """See Truth."""
        raise LookupError("this catalog keeps all vectors itself")

    def every(self, ns: int) -> Iterator[tuple[Items, Vectors]]:
        """See Truth."""
        raise LookupError("this catalog keeps all vectors itself")


class Catalog:
    """What can be found in one generation.

    `_changing` is held by whoever changes or saves: so a save sees one sequence, while searches go on.
    `_lock` is held for the moments in which memory itself changes.
    """

    def __init__(self, dimension: int, truth: Truth | None = None) -> None:
        self.dimension = dimension
        self.truth: Truth = truth or NoTruth()
        self._changing = threading.RLock()
        self._lock = Shared()
        self._indexes: dict[int, VectorIndex] = {}
        self._ns_of = NumberMap()
        #: Items changed while a namespace is being rebuilt aside.
        self._journals: dict[int, set[int]] = {}
        #: Asked first when it is there; it knows what changed since each copy.
        self.replica: Replica | None = None
        self._deltas: dict[int, Delta] = {}
        self._copies = 0

    def __len__(self) -> int:
        return len(self._ns_of)

    @property
    def bytes(self) -> int:
        """Memory the vectors take, roughly."""
        return self._ns_of.bytes + sum(index.bytes for index in self.indexes.values())

    @property
    def indexes(self) -> dict[int, VectorIndex]:
        """The index of every namespace that ever had a vector, as they are now."""
        return dict(self._indexes)

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
        with self._changing:
            # What is slow is done before searches have to wait.
            prepared = []
            for ns, places in by_ns.items():
                index = self._indexes.get(ns) or FlatIndex(self.dimension)
                items = np.array([kept[at].item for at in places], dtype=np.int64)
                prepared.append((ns, index, items, index.prepare(items, rows[places])))
            with self._lock.writing():
                self._remove([change.item for change in changes if change.vector is None])
                for ns, index, items, made in prepared:
                    self._indexes[ns] = index
                    index.put(made)
                    for item in items.tolist():
                        self._ns_of.set(item, ns)
                    self._note(ns, items.tolist())
                    if (delta := self._deltas.get(ns)) is not None:
                        delta.put(items, rows[by_ns[ns]])

    def _remove(self, items: Sequence[int]) -> None:
        by_ns: dict[int, list[int]] = {}
        for item in items:
            ns = self._ns_of.pop(item)
            if ns is not None:
                by_ns.setdefault(ns, []).append(item)
        for ns, gone in by_ns.items():
            self._indexes[ns].remove(gone)
            self._note(ns, gone)
            if (delta := self._deltas.get(ns)) is not None:
                delta.remove(gone)

    def _note(self, ns: int, items: Sequence[int]) -> None:
        journal = self._journals.get(ns)
        if journal is not None:
            journal.update(items)

    def search(
        self,
        ns: int,
        queries: Vectors,
        k: int,
        only: Sequence[int] | None,
        threads: int,
        effort: Effort = BY_DEFAULT,
    ) -> list[Finds]:
        """See VectorIndex.search."""
        return self.search_on(ns, queries, k, only, threads, effort)[1]

    def search_on(
        self,
        ns: int,
        queries: Vectors,
        k: int,
        only: Sequence[int] | None,
        threads: int,
        effort: Effort = BY_DEFAULT,
    ) -> tuple[str, list[Finds]]:
        """The device that searched, and what it found. Filters are the CPU's: a GPU's index ignores them."""
        replica, delta = self.replica, self._deltas.get(ns)
        if only is None and replica is not None and delta is not None:
            # Not under the lock: writes must not wait for a device.
            found = replica.candidates(delta, ns, queries, k, effort)
            if found is not None:
                with self._lock.reading():
                    # A copy made meanwhile has taken the changes since to its own delta.
                    if self._deltas.get(ns) is delta:
                        device = replica.device or "cpu"
                        return device, self._merged(delta, ns, queries, k, found, threads, effort)
        with self._lock.reading():
            index = self._indexes.get(ns)
            if index is None:
                return "cpu", [NOTHING for _ in queries]
            return "cpu", index.search(queries, k, only, threads, effort)

    def _merged(
        self, delta: Delta, ns: int, queries: Vectors, k: int, found: Items, threads: int, effort: Effort
    ) -> list[Finds]:
        now = self._indexes[ns]
        rows, doubtful = delta.merged(now, queries, k, found, threads)
        if doubtful:
            again = now.search(queries[doubtful], k, None, threads, effort)
            for at, row in zip(doubtful, again, strict=True):
                rows[at] = row
        return rows

    # -- the replica's copy (see replica/keeper)

    def delta(self, ns: int) -> Delta | None:
        """What changed since the namespace's copy; None when it has none."""
        return self._deltas.get(ns)

    def copy_for_replica(self, ns: int, path: Path) -> Delta:
        """Writes a namespace's index to a file; from that moment on its changes are kept in the delta."""
        with self._changing:
            index = self._indexes[ns]
            index.write(path)
            items = index.items().copy() if index.plan == FLAT else None
            self._copies += 1
            made = Delta(self._copies, index, self.dimension, items)
            with self._lock.writing():
                self._deltas[ns] = made
        return made

    def end_delta(self, ns: int) -> None:
        """There is no copy any more."""
        with self._changing, self._lock.writing():
            self._deltas.pop(ns, None)

    def save(self, directory: Path) -> list[str]:
        """Writes everything into a directory; the names of the files made (not flushed to disk).

        Searches go on; changes wait. Called by the thread that applies changes, it is of that moment.
        """
        with self._changing:
            return files.save(directory, self.dimension, self._indexes)

    def load(self, directory: Path) -> None:
        """Becomes what `save` wrote. Raises ValueError (or OSError) with what is wrong; then nothing changed.

        Check the files' hashes before: FAISS's reader is not meant for files of strangers.
        """
        loaded = files.load(directory, self.dimension, self.truth)
        ns_of = NumberMap()
        for ns, index in loaded.items():
            for item in index.items().tolist():
                ns_of.set(item, ns)
        if len(ns_of) != sum(map(len, loaded.values())):
            raise ValueError("an item is listed in two namespaces")
        with self._changing, self._lock.writing():
            self._indexes, self._ns_of, self._deltas = loaded, ns_of, {}

    # -- rebuilding a namespace aside (see promotion)

    def begin_rebuild(self, ns: int) -> None:
        """From now on, what changes in the namespace is remembered for `catch_up` and `swap`."""
        with self._changing, self._lock.writing():
            self._journals[ns] = set()

    def end_rebuild(self, ns: int) -> None:
        """Nothing is remembered any more."""
        with self._changing, self._lock.writing():
            self._journals.pop(ns, None)

    def catch_up(self, ns: int, index: VectorIndex, pause: Callable[[], None] = lambda: None) -> int:
        """Brings an index being built up to what changed since it was last asked; how many items.

        `pause` is called between pieces of the work, and may raise.
        """
        with self._changing, self._lock.writing():
            changed, self._journals[ns] = self._journals[ns], set()
        self._refresh(index, changed, pause)
        return len(changed)

    def swap(self, ns: int, index: VectorIndex) -> int:
        """Puts a built index into service; how many items changed at the last moment. Searches go on."""
        with self._changing:
            changed = self._journals[ns]
            self._refresh(index, changed)
            with self._lock.writing():
                self._journals.pop(ns)
                self._indexes[ns] = index
        return len(changed)

    def _refresh(
        self, index: VectorIndex, changed: set[int], pause: Callable[[], None] = lambda: None
    ) -> None:
        items = sorted(changed)
        # In pieces: all at once, the vectors of a large import would be in memory twice more.
        for start in range(0, len(items), _PIECE):
            part = items[start : start + _PIECE]
            # The database may be ahead of memory by what is being committed; that is then applied once more.
            there, vectors = self.truth.of(part)
            index.remove(sorted(set(part).difference(there.tolist())))
            if len(there):
                index.put(index.prepare(there, vectors))
            pause()
