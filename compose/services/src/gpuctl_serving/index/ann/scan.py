"""An exact scan for few queries on several threads: FAISS itself divides a search by its queries only."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import partial
from itertools import pairwise

import numpy as np

from gpuctl_serving.index.ann.library import faiss
from gpuctl_serving.index.ann.near import Items
from gpuctl_serving.index.vectors import Vectors

_Share = Future[tuple[Vectors, Items]]

#: Starts a thread when none is idle; they sleep while nobody searches.
_HELPERS = ThreadPoolExecutor(thread_name_prefix="exact-scan")


def scan(rows: Vectors, queries: Vectors, k: int, shares: int) -> tuple[Vectors, Items]:
    """The `k` rows with the largest inner products for each query, best first: scores and row numbers.

    The rows are divided into `shares`, each of which has a thread. `k` is at most their number.
    """
    edges = np.linspace(0, len(rows), shares + 1, dtype=np.int64).tolist()
    best = partial(_best, rows, queries, k)
    others = [_Share() for _ in edges[2:]]
    try:
        for other, (first, last) in zip(others, pairwise(edges[1:]), strict=True):
            _HELPERS.submit(_answer, other, partial(best, first, last))
        found = [best(*edges[:2]), *(other.result() for other in others)]
    finally:
        # Nobody may read the rows once the caller is gone: it holds what keeps them where they are.
        wait([other for other in others if not other.cancel()])
    scores = np.concatenate([each for each, _ in found], axis=1)
    numbers = np.concatenate([each for _, each in found], axis=1)
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(scores, order, axis=1), np.take_along_axis(numbers, order, axis=1)


def _answer(share: _Share, best: Callable[[], tuple[Vectors, Items]]) -> None:
    # What a pool without threads refused stays in its queue: it must not begin once nobody waits for it.
    if not share.set_running_or_notify_cancel():
        return
    try:
        share.set_result(best())
    except BaseException as failure:
        share.set_exception(failure)


def _best(rows: Vectors, queries: Vectors, k: int, first: int, last: int) -> tuple[Vectors, Items]:
    # The setting is a thread's own.
    faiss.omp_set_num_threads(1)
    scores, numbers = faiss.knn(
        queries, rows[first:last], min(k, last - first), metric=faiss.METRIC_INNER_PRODUCT
    )
    return scores, numbers + first
