"""Reads a FAISS file: which index it is, its vectors row by row, what it finds. Never changes the file."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpuctl_serving.index.ann.library import faiss
from gpuctl_serving.migration.problems import MigrationProblem

Matrix = NDArray[np.float32]
Numbers = NDArray[np.int64]

_CHUNK = 8192
_METRICS = {faiss.METRIC_INNER_PRODUCT: "inner-product", faiss.METRIC_L2: "l2"}
_ELSEWHERE = "export its vectors with the program that wrote it, or index the texts again: gpuctl index add"


@dataclass(frozen=True)
class Kind:
    """What a FAISS file holds."""

    #: FAISS's own class, without wrappers: `IndexIVFPQ`.
    type: str
    dimension: int
    count: int
    metric: str
    #: Whether the stored vectors are approximations of those that were added.
    lossy: bool


class FaissSource:
    """One FAISS file, opened. `labels` are what its searches answer: row numbers, or the ids of an id map."""

    def __init__(self, path: Path) -> None:
        self._index: Any = _read(path)
        outer: Any = faiss.downcast_index(self._index)
        mapped = isinstance(outer, faiss.IndexIDMap)
        self._inner: Any = faiss.downcast_index(outer.index) if mapped else outer
        self._ids: Numbers | None = faiss.vector_to_array(outer.id_map).astype(np.int64) if mapped else None
        if isinstance(self._inner, faiss.IndexHNSWFlat):
            self._inner = faiss.downcast_index(self._inner.storage)
        self.kind = _kind(path, self._inner)

    def chunks(self) -> Iterator[tuple[Numbers, Matrix]]:
        """(labels, vectors) of everything, a few thousand rows at a time. Lossy types give approximations."""
        if isinstance(self._inner, faiss.IndexIVF):
            yield from self._from_lists()
            return
        for start in range(0, self.kind.count, _CHUNK):
            count = min(_CHUNK, self.kind.count - start)
            rows = np.arange(start, start + count, dtype=np.int64)
            yield self._labels(rows), np.asarray(self._inner.reconstruct_n(start, count), np.float32)

    def _from_lists(self) -> Iterator[tuple[Numbers, Matrix]]:
        lists, size = self._inner.invlists, self._inner.invlists.code_size
        for number in range(self._inner.nlist):
            length = lists.list_size(number)
            if length == 0:
                continue
            ids = faiss.rev_swig_ptr(lists.get_ids(number), length).astype(np.int64)
            if isinstance(self._inner, faiss.IndexIVFFlat):
                raw = faiss.rev_swig_ptr(lists.get_codes(number), length * size)
                vectors = raw.view(np.float32).reshape(length, self.kind.dimension).copy()
            else:
                vectors = np.stack([self._reconstructed(number, offset) for offset in range(length)])
            yield self._labels(ids), vectors

    def _reconstructed(self, number: int, offset: int) -> Matrix:
        vector = np.empty(self.kind.dimension, np.float32)
        self._inner.reconstruct_from_offset(number, offset, faiss.swig_ptr(vector))
        return vector

    def search(self, queries: Matrix, k: int) -> Numbers:
        """Labels of the nearest, best first; -1 where there are fewer than `k`."""
        faiss.omp_set_num_threads(1)
        found: Numbers = self._index.search(np.ascontiguousarray(queries), k)[1]
        return found

    def _labels(self, rows: Numbers) -> Numbers:
        return rows if self._ids is None else self._ids[rows]


def _read(path: Path) -> Any:
    try:
        return faiss.read_index(str(path))
    except (RuntimeError, MemoryError) as failure:
        reason = str(failure).strip()[-300:]
        raise MigrationProblem(
            f"{path} cannot be read as a FAISS index",
            f"FAISS {faiss.__version__} says: {reason}",
            "give the file that faiss.write_index made (LangChain calls it index.faiss)",
        ) from failure


def _kind(path: Path, index: Any) -> Kind:
    name = type(index).__name__
    lossless = isinstance(index, faiss.IndexFlat | faiss.IndexIVFFlat)
    known = lossless or isinstance(
        index, faiss.IndexIVFPQ | faiss.IndexIVFScalarQuantizer | faiss.IndexPQ | faiss.IndexScalarQuantizer
    )
    if not known:
        raise MigrationProblem(
            f"{path} holds a {name}",
            "only Flat, IVFFlat, HNSWFlat, IVFPQ, PQ and scalar-quantised indexes are understood here",
            _ELSEWHERE,
        )
    metric = _METRICS.get(index.metric_type)
    if metric is None:
        raise MigrationProblem(
            f"{path} compares by FAISS metric {index.metric_type}",
            "only inner product and L2 give the order that cosine gives on unit vectors",
            _ELSEWHERE,
        )
    return Kind(name, int(index.d), int(index.ntotal), metric, not lossless)
