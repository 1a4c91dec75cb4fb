"""One size: build each index type, search with each batch, say recall beside every rate."""

import resource
import time
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from gpuctl_serving.index.ann.flat import FlatIndex
from gpuctl_serving.index.ann.ivf import IvfIndex
from gpuctl_serving.index.ann.library import faiss
from gpuctl_serving.index.ann.near import Items
from gpuctl_serving.index.ann.plan import Policy, shortage, wanted
from gpuctl_serving.index.ann.training import Pace, build
from gpuctl_serving.index.bench.data import Held
from gpuctl_serving.index.bench.device import Search, on_cpu, on_gpu
from gpuctl_serving.index.vectors import Vectors

#: A found neighbour counts when it is as near as the true k-th: ties and duplicates are no misses.
_AS_NEAR = 1e-4
_LEAST_CALLS = 5


@dataclass(frozen=True)
class Row:
    """One figure of the table. Times in milliseconds a call; `qps` counts queries, not calls."""

    vectors: int
    type: str
    device: str
    batch: int
    recall: float
    qps: float
    p50: float
    p99: float | None
    calls: int
    buildSeconds: float
    bytesAVector: float


def exact(rows: Vectors, queries: Vectors, k: int, threads: int) -> Vectors:
    """The score of each query's true k-th neighbour."""
    faiss.omp_set_num_threads(threads)
    index = faiss.IndexFlatIP(rows.shape[1])
    best = np.full((len(queries), 0), -np.inf, np.float32)
    for start in range(0, len(rows), 65_536):
        index.reset()
        index.add(rows[start : start + 65_536])
        best = np.concatenate([best, index.search(queries, min(k, index.ntotal))[0]], axis=1)
        best = -np.sort(-best, axis=1)[:, :k]
    return best[:, -1]


def recall(rows: Vectors, queries: Vectors, kth: Vectors, found: Items) -> float:
    """Share of the found neighbours that are as near as the true k-th; rounded down."""
    there = found >= 0
    scores = np.einsum("qkd,qd->qk", rows[np.where(there, found, 0)], queries)
    right = (scores >= kth[:, None] - _AS_NEAR) & there
    return float(np.floor(right.mean() * 1e4) / 1e4)


class Size:
    """All figures of one number of vectors."""

    def __init__(self, rows: Vectors, queries: Vectors, k: int, seconds: float, threads: int) -> None:
        self._rows, self._queries, self._k = rows, queries, k
        self._seconds, self._threads = seconds, threads
        self._kth = exact(rows, queries, k, threads)

    def types(self) -> list[str]:
        """Flat always; then what a namespace of this size becomes, and IVFFlat beside IVFPQ."""
        count, dimension = self._rows.shape
        plan = wanted(Policy(), count, dimension)
        if plan.kind == "Flat" or shortage(plan, count):
            return ["Flat"]
        return ["Flat", "IVFFlat"] if plan.kind == "IVFFlat" else ["Flat", "IVFFlat", "IVFPQ"]

    def rows(self, kind: str, batches: list[int], gpu: int | None) -> list[Row]:
        """The figures of one type, on the CPU and then on the GPU."""
        began = time.perf_counter()
        index = self._build(kind)
        built = time.perf_counter() - began
        found = self._device("cpu", on_cpu(index, self._threads), index, batches, built)
        if gpu is not None:
            raw = index._index
            found += self._device("cuda", on_gpu(raw, gpu), index, batches, built)
        return found

    def _build(self, kind: str) -> FlatIndex | IvfIndex:
        count, dimension = self._rows.shape
        if kind == "Flat":
            index = FlatIndex(dimension)
            index.put(index.prepare(np.arange(count, dtype=np.int64), self._rows))
            return index
        plan = wanted(Policy(wish="IVFFlat" if kind == "IVFFlat" else "IVFPQ"), count, dimension)
        return build(Held(self._rows), 0, plan, count, dimension, Pace(lambda: False))

    def _device(
        self, device: str, search: Search, index: FlatIndex | IvfIndex, batches: list[int], built: float
    ) -> list[Row]:
        share = recall(self._rows, self._queries, self._kth, self._all(search))
        made = []
        for batch in batches:
            times = self._timed(search, batch)
            made.append(
                Row(
                    vectors=len(self._rows),
                    type=index.plan.kind,
                    device=device,
                    batch=batch,
                    recall=share,
                    qps=round(batch * len(times) / float(times.sum()), 1),
                    p50=round(float(np.percentile(times, 50)) * 1000, 3),
                    # Below 100 calls a p99 is only the slowest of them.
                    p99=round(float(np.percentile(times, 99)) * 1000, 3) if len(times) >= 100 else None,
                    calls=len(times),
                    buildSeconds=round(built, 3),
                    bytesAVector=round(index.bytes / len(self._rows), 1),
                )
            )
        return made

    def _all(self, search: Search) -> Items:
        return np.concatenate(
            [search(self._queries[at : at + 32], self._k) for at in range(0, len(self._queries), 32)]
        )

    def _timed(self, search: Search, batch: int) -> np.ndarray[Any, np.dtype[np.float64]]:
        times: list[float] = []
        random = np.random.default_rng(batch)
        search(self._queries[:1].repeat(batch, axis=0), self._k)
        until = time.perf_counter() + self._seconds
        while len(times) < _LEAST_CALLS or time.perf_counter() < until:
            queries = np.ascontiguousarray(self._queries[random.integers(len(self._queries), size=batch)])
            began = time.perf_counter()
            search(queries, self._k)
            times.append(time.perf_counter() - began)
        return np.asarray(times)


def memory_needed(count: int, dimension: int) -> int:
    """Bytes at the height of one size: the vectors, an index of them, and a copy to train with."""
    return int(count * dimension * 4 * 2.5) + 256 * 1024 * 1024


def peak_bytes() -> int:
    """Most memory this process had so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def as_dict(row: Row) -> dict[str, Any]:
    """For JSON."""
    return asdict(row)
