"""The FAISS engine: one exact index of a namespace. Nothing else imports faiss."""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from gpuctl_serving.index.vectors import Vectors

Rows = NDArray[np.int64]

#: Below this share of an index a filtered search multiplies the wanted rows only.
_GATHER_SHARE = 0.1
#: FAISS sums in float32; two of its scores this close may be in either order.
_CLOSE = 4e-6
#: Rows looked at for ties at the k-th place, at most (or four times k).
_MOST_TIES = 16_384
#: FAISS gives a batch of at least this many queries to BLAS, which uses threads well.
_BLAS_QUERIES = 20

DIGITS = 6


@dataclass(frozen=True, slots=True)
class Near:
    """A found item and its cosine, rounded so that every device gives the same order."""

    item: int
    score: float


def version() -> str:
    """Version of the FAISS library."""
    return str(faiss.__version__)


def gpu_reason() -> str:
    """Why no GPU is in use."""
    if not hasattr(faiss, "StandardGpuResources"):
        return f"the installed FAISS {version()} is the CPU build"
    return "this version searches on the CPU only"


class FlatIndex:
    """Exact inner product over unit vectors, dense in memory. Readers may share it; a writer may not.

    Rows have no gaps: a removed row's place is filled by the last one, so there are no tombstones and
    nothing to compact.
    """

    def __init__(self, dimension: int) -> None:
        self._dimension = dimension
        self._index = faiss.IndexFlatIP(dimension)
        self._items = array("q")
        self._row_of: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._items)

    @property
    def bytes(self) -> int:
        """Memory the vectors and the map of their items take, roughly."""
        return len(self) * (self._dimension * 4 + 8 + 100)

    def put(self, items: Sequence[int], vectors: Vectors) -> None:
        """Adds or replaces; `items` are distinct."""
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
                self._row_of[items[at]] = len(self._items)
                self._items.append(items[at])

    def remove(self, item: int) -> None:
        """Forgets an item; nothing happens when it is not here."""
        row = self._row_of.pop(item, None)
        if row is None:
            return
        last = len(self._items) - 1
        if row != last:
            rows = self._rows()
            rows[row] = rows[last]
            moved = self._items[last]
            self._items[row], self._row_of[moved] = moved, row
        self._items.pop()
        self._index.codes.resize(last * self._index.code_size)
        self._index.ntotal = last

    def search(self, queries: Vectors, k: int, only: Sequence[int] | None, threads: int) -> list[list[Near]]:
        """For each query the best `k` (among `only`) and whatever ties with the k-th; in no order."""
        rows = None if only is None else self._rows_of(only)
        if len(self) == 0 or (rows is not None and len(rows) == 0):
            return [[] for _ in queries]
        if rows is not None and len(rows) <= max(k, _GATHER_SHARE * len(self)):
            return [self._gathered(query, rows, k) for query in queries]
        faiss.omp_set_num_threads(threads if len(queries) >= _BLAS_QUERIES else 1)
        return self._searched(queries, k, rows)

    def _searched(self, queries: Vectors, k: int, rows: Rows | None) -> list[list[Near]]:
        allowed = len(self) if rows is None else len(rows)
        fetch = min(allowed, k + 8)
        scores, found = self._faiss(queries, fetch, rows)
        answer = []
        for at, query in enumerate(queries):
            near_scores, near_rows, wide = scores[at], found[at], fetch
            # The k-th may tie with rows beyond what was fetched; the order by id needs all of them.
            while (
                wide < min(allowed, max(_MOST_TIES, 4 * k)) and near_scores[-1] >= near_scores[k - 1] - _CLOSE
            ):
                wide = min(allowed, wide * 4)
                more_scores, more_rows = self._faiss(queries[at : at + 1], wide, rows)
                near_scores, near_rows = more_scores[0], more_rows[0]
            answer.append(self._scored(query, near_rows[near_rows >= 0]))
        return answer

    def _gathered(self, query: Vectors, rows: Rows, k: int) -> list[Near]:
        if len(rows) > k:
            rough = self._rows()[rows] @ query
            kth = np.partition(rough, len(rough) - k)[len(rough) - k]
            rows = rows[rough >= kth - _CLOSE]
        return self._scored(query, rows)

    def _faiss(self, queries: Vectors, k: int, rows: Rows | None) -> tuple[Vectors, Rows]:
        if rows is None:
            return self._index.search(queries, k)
        wanted = np.zeros(len(self), dtype=bool)
        wanted[rows] = True
        bits = np.packbits(wanted, bitorder="little")
        selector = faiss.IDSelectorBitmap(len(self), faiss.swig_ptr(bits))
        parameters: Any = faiss.SearchParameters()
        parameters.sel = selector
        return self._index.search(queries, k, params=parameters)

    def _scored(self, query: Vectors, rows: Rows) -> list[Near]:
        # Again in float64, row by row alike: equal vectors get equal scores wherever they lie.
        exact = (self._rows()[rows].astype(np.float64) * query.astype(np.float64)).sum(axis=1)
        # Adding zero turns -0.0 into 0.0.
        scores = np.round(exact, DIGITS) + 0.0
        return [
            Near(self._items[row], score) for row, score in zip(rows.tolist(), scores.tolist(), strict=True)
        ]

    def _rows_of(self, items: Sequence[int]) -> Rows:
        known = (self._row_of.get(item) for item in items)
        return np.fromiter((row for row in known if row is not None), dtype=np.int64)

    def _rows(self) -> Any:
        """FAISS's own memory; good until the next change of size."""
        count = len(self._items)
        return faiss.rev_swig_ptr(self._index.get_xb(), count * self._dimension).reshape(
            count, self._dimension
        )


def canary() -> tuple[bool, float, str]:
    """A tiny search with a known answer, by the code requests use: (right, score, detail)."""
    corners = np.eye(16, dtype=np.float32)
    index = FlatIndex(16)
    index.put(list(range(100, 116)), corners)
    index.remove(103)
    query = (corners[7] * 0.8 + corners[2] * 0.6).reshape(1, 16)
    found = sorted(index.search(query, 2, None, 1)[0], key=lambda near: -near.score)[:2]
    right = [(near.item, near.score) for near in found] == [(107, 0.8), (102, 0.6)]
    worst = min((near.score for near in found), default=0.0)
    detail = "2 of 15 known neighbours in order" if right else f"expected items 107 and 102, found {found}"
    return right, worst, detail
