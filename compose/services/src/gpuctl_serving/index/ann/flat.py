"""The exact index: inner product over unit vectors, dense in memory."""

from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np

from gpuctl_serving.index.ann.library import faiss, write_index
from gpuctl_serving.index.ann.near import BY_DEFAULT, NOTHING, Effort, Finds, Items, exact_scores
from gpuctl_serving.index.ann.numbers import NumberMap
from gpuctl_serving.index.ann.plan import FLAT
from gpuctl_serving.index.ann.scan import scan
from gpuctl_serving.index.ann.share import threads_for
from gpuctl_serving.index.vectors import Vectors

#: Below this share of an index a filtered search multiplies the wanted rows only.
_GATHER_SHARE = 0.1
#: FAISS sums in float32; two of its scores this close may be in either order.
_CLOSE = 4e-6
#: Fetched beyond k: room for ties.
_MARGIN = 8
#: Rows looked at for ties at the k-th place, at most (or four times k).
_MOST_TIES = 16_384
#: FAISS gives a batch of at least this many queries to BLAS, which uses threads well.
_BLAS_QUERIES = 20

Prepared = tuple[list[int], Vectors]


class FlatIndex:
    """Readers may share it; a writer may not.

    Rows have no gaps: a removed row's place is filled by the last one, so there are no tombstones and
    nothing to compact.
    """

    plan = FLAT

    def __init__(self, dimension: int) -> None:
        self._dimension = dimension
        self._index = faiss.IndexFlatIP(dimension)
        self._items = array("q")
        self._row_of = NumberMap()

    @classmethod
    def of(cls, raw: Any, items: Items) -> "FlatIndex":
        """An index read from a file. Raises ValueError when its items cannot be right."""
        index = cls(raw.d)
        if not isinstance(raw, faiss.IndexFlat) or len(items) != raw.ntotal:
            raise ValueError(f"{len(items)} items are listed for {raw.ntotal} vectors")
        index._index, index._items = raw, array("q", items.tobytes())
        for row, item in enumerate(index._items):
            index._row_of.set(item, row)
        if len(index._row_of) != raw.ntotal:
            raise ValueError("an item is listed twice")
        return index

    def write(self, path: Path) -> None:
        """Writes the vectors as a FAISS file. Raises OSError."""
        write_index(self._index, path)

    def __len__(self) -> int:
        return len(self._items)

    @property
    def bytes(self) -> int:
        """Memory the vectors and the map of their items take, roughly."""
        return len(self) * (self._dimension * 4 + 8) + self._row_of.bytes

    def prepare(self, items: Items, vectors: Vectors) -> Prepared:
        """See VectorIndex."""
        return items.tolist(), vectors

    def put(self, prepared: Prepared) -> None:
        """See VectorIndex."""
        items, vectors = prepared
        fresh: list[int] = []
        for at, item in enumerate(items):
            row = self._row_of.get(item)
            if row is None:
                fresh.append(at)
            else:
                self._rows()[row] = vectors[at]
        if fresh:
            self._index.add(np.ascontiguousarray(vectors[fresh]))
            for at in fresh:
                self._row_of.set(items[at], len(self._items))
                self._items.append(items[at])

    def remove(self, items: Sequence[int]) -> None:
        """See VectorIndex."""
        for item in items:
            self._remove(item)

    def _remove(self, item: int) -> None:
        row = self._row_of.pop(item)
        if row is None:
            return
        last = len(self._items) - 1
        if row != last:
            rows = self._rows()
            rows[row] = rows[last]
            moved = self._items[last]
            self._items[row] = moved
            self._row_of.set(moved, row)
        self._items.pop()
        self._index.codes.resize(last * self._index.code_size)
        self._index.ntotal = last

    def facts(self) -> dict[str, Any]:
        """See VectorIndex."""
        return {"type": "Flat", "trained": True, "bytes": self.bytes}

    def search(
        self,
        queries: Vectors,
        k: int,
        only: Sequence[int] | None,
        threads: int,
        effort: Effort = BY_DEFAULT,
    ) -> list[Finds]:
        """For each query the best `k` (among `only`) and whatever ties with the k-th."""
        rows = None if only is None else self._rows_of(only)
        if len(self) == 0 or (rows is not None and len(rows) == 0):
            return [NOTHING for _ in queries]
        if rows is not None and len(rows) <= max(k, _GATHER_SHARE * len(self)):
            return [self._gathered(query, rows, k) for query in queries]
        worth = threads_for(len(queries) * len(self) * self._dimension, threads)
        by_blas = len(queries) >= _BLAS_QUERIES
        faiss.omp_set_num_threads(worth if by_blas else 1)
        return self._searched(queries, k, rows, 1 if by_blas else worth)

    def candidates(self, k: int) -> int:
        """See VectorIndex."""
        return k + _MARGIN

    def probes(self, effort: Effort) -> int:
        """See VectorIndex."""
        return 0

    def score(self, queries: Vectors, found: Items) -> list[Finds]:
        """See VectorIndex."""
        return [
            self._scored(query, self._rows_of(np.unique(row[row >= 0]).tolist()))
            for query, row in zip(queries, found, strict=True)
        ]

    def _searched(self, queries: Vectors, k: int, rows: Items | None, shares: int) -> list[Finds]:
        allowed = len(self) if rows is None else len(rows)
        fetch = min(allowed, k + _MARGIN)
        scores, found = self._faiss(queries, fetch, rows, shares)
        answer = []
        for at, query in enumerate(queries):
            near_scores, near_rows, wide = scores[at], found[at], fetch
            # The k-th may tie with rows beyond what was fetched; the order by id needs all of them.
            while (
                wide < min(allowed, max(_MOST_TIES, 4 * k)) and near_scores[-1] >= near_scores[k - 1] - _CLOSE
            ):
                wide = min(allowed, wide * 4)
                more_scores, more_rows = self._faiss(queries[at : at + 1], wide, rows, shares)
                near_scores, near_rows = more_scores[0], more_rows[0]
            answer.append(self._scored(query, near_rows[near_rows >= 0]))
        return answer

    def _gathered(self, query: Vectors, rows: Items, k: int) -> Finds:
        if len(rows) > k:
            rough = self._rows()[rows] @ query
            kth = np.partition(rough, len(rough) - k)[len(rough) - k]
            rows = rows[rough >= kth - _CLOSE]
        return self._scored(query, rows)

    def _faiss(self, queries: Vectors, k: int, rows: Items | None, shares: int) -> tuple[Vectors, Items]:
        if rows is None and shares > 1:
            return scan(self._rows(), queries, k, shares)
        if rows is None:
            return cast(tuple[Vectors, Items], self._index.search(queries, k))
        wanted = np.zeros(len(self), dtype=bool)
        wanted[rows] = True
        bits = np.packbits(wanted, bitorder="little")
        selector = faiss.IDSelectorBitmap(len(self), faiss.swig_ptr(bits))
        parameters = faiss.SearchParameters(sel=selector)
        return cast(tuple[Vectors, Items], self._index.search(queries, k, params=parameters))

    def _scored(self, query: Vectors, rows: Items) -> Finds:
        return Finds(self.items()[rows], exact_scores(self._rows()[rows], query))

    def items(self) -> Items:
        """The item of each row, shared with the index; good until its next change."""
        return np.frombuffer(self._items, dtype=np.int64) if self._items else np.empty(0, np.int64)

    def rows(self) -> Vectors:
        """The vectors, shared with the index; good until its next change."""
        return self._rows()[:] if self._items else np.empty((0, self._dimension), np.float32)

    def _rows_of(self, items: Sequence[int]) -> Items:
        known = (self._row_of.get(item) for item in items)
        return np.fromiter((row for row in known if row is not None), dtype=np.int64)

    def _rows(self) -> Vectors:
        """FAISS's own memory; good until the next change of size."""
        count = len(self._items)
        memory = faiss.rev_swig_ptr(self._index.get_xb(), count * self._dimension)
        return cast(Vectors, memory.reshape(count, self._dimension))
