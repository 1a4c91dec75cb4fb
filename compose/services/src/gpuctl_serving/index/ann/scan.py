"""An exact scan for few queries on several threads: FAISS itself divides a search by its queries only."""

from concurrent.futures import ThreadPoolExecutor, wait
from functools import partial
from itertools import pairwise

import numpy as np

from gpuctl_serving.index.ann.library import faiss
from gpuctl_serving.index.ann.near import Items
from gpuctl_serving.index.vectors import Vectors

#: Starts a thread when none is idle; they sleep while nobody searches.
_HELPERS = ThreadPoolExecutor(thread_name_prefix="exact-scan")


def scan(rows: Vectors, queries: Vectors, k: int, shares: int) -> tuple[Vectors, Items]:
    """The `k` rows with the largest inner products for each query, best first: scores and row numbers.

    The rows are divided into `shares`, each of which has a thread. `k` is at most their number.
    """
    edges = np.linspace(0, len(rows), shares + 1, dtype=np.int64).tolist()
    best = partial(_best, rows, queries, k)
    others = [_HELPERS.submit(best, *share) for share in pairwise(edges[1:])]
    try:
        first = best(*edges[:2])
    finally:
        # Nobody may read the rows once the caller is gone: it holds what keeps them where they are.
        wait(others)
    found = [first, *(other.result() for other in others)]
    scores = np.concatenate([each for each, _ in found], axis=1)
    numbers = np.concatenate([each for _, each in found], axis=1)
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(scores, order, axis=1), np.take_along_axis(numbers, order, axis=1)


def _best(rows: Vectors, queries: Vectors, k: int, first: int, last: int) -> tuple[Vectors, Items]:
    # The setting is a thread's own.
    faiss.omp_set_num_threads(1)
    scores, numbers = faiss.knn(
        queries, rows[first:last], min(k, last - first), metric=faiss.METRIC_INNER_PRODUCT
    )
    return scores, numbers + first
