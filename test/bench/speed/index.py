"""The index through HTTP against FAISS in this process: 100,000 x 384, exact and IVF, one query and many."""

import base64
import http.client
import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import faiss
import numpy as np
from gpuctl_serving.index.ann.plan import lists_for

from . import load
from .rounds import Rounds, report, spread
from .servers import Server, service

TARGETS = {
    "flatByBare": ">= 0.9",
    "ivfByBare batch 32": ">= 0.75",
    "ivfSinglesPerSecond concurrency 32": ">= 1500",
}
_DIMENSION, _K, _NPROBE = 384, 10, 8
_ADD = "/api/v1/vector-store/add"
_SEARCH = "/api/v1/vector-store/search"


def measure(count: int, rounds: int, scratch: Path) -> None:
    """`count` clustered unit vectors; recall of IVF is printed beside its speed."""
    vectors, queries = _clustered(count, 1), _clustered(3200, 2)
    flat = faiss.IndexFlatIP(_DIMENSION)
    flat.add(vectors)
    # As many lists as the service makes: with fewer, a probe compares more and the bare index looks slow.
    ivf = faiss.index_factory(_DIMENSION, f"IVF{lists_for(count)},Flat", faiss.METRIC_INNER_PRODUCT)
    ivf.train(vectors)
    ivf.add(vectors)
    ivf.nprobe = _NPROBE
    taken, both = Rounds(), len(os.sched_getaffinity(0))
    with (
        _filled("Flat", vectors, scratch) as exact,
        _filled("IVFFlat", vectors, scratch) as near,
    ):
        arms: dict[str, Callable[[int], float]] = {
            # FAISS splits a scan by its queries: with one of them a second thread only spins, and takes time.
            "flat bare": lambda _: _bare(flat, queries[:160], 1, threads=1),
            "flat http": lambda _: _http(exact, queries[:160], 1, 1),
            "ivf bare 32": lambda _: _bare(ivf, queries, 32, threads=both),
            "ivf http 32": lambda _: _http(near, queries, 32, 1),
            "ivf http 32, four clients": lambda _: _http(near, queries, 32, 4),
            "ivf http singles": lambda _: _http(near, queries, 1, 32),
        }
        taken.take(arms, rounds)
        recall = _recall(near, queries[:200], flat)
    figures = {
        "flatByBare": spread(taken.ratio("flat http", "flat bare")),
        "ivfByBare batch 32": spread(taken.ratio("ivf http 32", "ivf bare 32")),
        "ivfByBare batch 32, four clients": spread(taken.ratio("ivf http 32, four clients", "ivf bare 32")),
        "ivfSinglesPerSecond concurrency 32": spread(taken.values["ivf http singles"]),
        "ivfRecallAt10": round(recall, 4),
    }
    report("index", figures, TARGETS)


def _clustered(count: int, seed: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    centres = np.random.default_rng(0).normal(size=(400, _DIMENSION))
    rows = centres[random.integers(0, len(centres), count)] + 0.6 * random.normal(size=(count, _DIMENSION))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


class _Filled:
    """An index service with vectors in it."""

    def __init__(self, kind: str, vectors: np.ndarray, scratch: Path) -> None:
        folder = scratch / f"index-{kind}"
        folder.mkdir(parents=True)
        settings = {
            "index_dir": str(folder),
            "index_dimension": str(_DIMENSION),
            "index_type": kind,
        }
        self._kind, self._vectors, self._service = (
            kind,
            vectors,
            service("index", settings),
        )

    def __enter__(self) -> Server:
        server = self._service.__enter__()
        for first in range(0, len(self._vectors), 1000):
            items = [
                {"id": str(first + at), "vectorBase64": _base64(row)}
                for at, row in enumerate(self._vectors[first : first + 1000])
            ]
            load.run(server.port, [load.request(_ADD, {"items": items})], 1)
        _until(server, self._kind)
        return server

    def __exit__(self, *ended: object) -> None:
        self._service.__exit__(None, None, None)


_filled = _Filled


def _until(server: Server, kind: str) -> None:
    """Waits until the index is of its type: training goes on beside the searches."""
    until = time.monotonic() + 600
    while (found := _stats(server)) != kind:
        if time.monotonic() > until:
            raise RuntimeError(f"the index is still {found}, not {kind}")
        time.sleep(0.5)


def _stats(server: Server) -> str:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    connection.request("GET", "/api/v1/vector-store/stats")
    return str(json.loads(connection.getresponse().read())["indexType"])


def _base64(row: np.ndarray) -> str:
    return base64.b64encode(row.tobytes()).decode()


def _search(queries: np.ndarray) -> dict[str, object]:
    return {
        "vectorsBase64": [_base64(row) for row in queries],
        "k": _K,
        "nprobe": _NPROBE,
        "include": [],
    }


def _bare(index: faiss.Index, queries: np.ndarray, batch: int, threads: int) -> float:
    faiss.omp_set_num_threads(threads)
    started = time.perf_counter()
    for first in range(0, len(queries), batch):
        index.search(queries[first : first + batch], _K)
    return len(queries) / (time.perf_counter() - started)


def _http(server: Server, queries: np.ndarray, batch: int, clients: int) -> float:
    groups = [queries[first : first + batch] for first in range(0, len(queries), batch)]
    requests = [load.request(_SEARCH, _search(group)) for group in groups]
    return len(queries) / load.run(server.port, requests, clients).seconds


def _recall(server: Server, queries: np.ndarray, flat: faiss.Index) -> float:
    """Share of the right neighbours' scores that are reached: ids of equal scores may be in any order."""
    wanted, _ = flat.search(queries, _K)
    answer = load.ask(server.port, _SEARCH, _search(queries))
    found = [[hit["score"] for hit in hits] for hits in answer["results"]]  # type: ignore[index]
    good = [sum(s >= w[-1] - 1e-5 for s in hits) / _K for hits, w in zip(found, wanted, strict=True)]
    return float(np.mean(good))
