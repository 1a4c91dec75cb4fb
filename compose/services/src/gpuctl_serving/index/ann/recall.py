"""How many lists to probe for which share of the true neighbours, measured on vectors not trained with."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from gpuctl_serving.index.ann.library import faiss
from gpuctl_serving.index.ann.near import Items
from gpuctl_serving.index.ann.plan import GPU_MAX_NPROBE
from gpuctl_serving.index.vectors import Vectors

#: Neighbours a measurement looks for: what people usually ask for.
NEIGHBOURS = 10
#: Beyond this recall, more lists are not worth measuring.
_ENOUGH = 0.9995
_TIE = 1e-6


@dataclass(frozen=True)
class RecallTable:
    """(nprobe, recall@10) from few lists to many; recall never falls."""

    points: tuple[tuple[int, float], ...] = ()

    def probe_for(self, target: float) -> int:
        """The fewest lists that reach a recall; the most that were measured when none does."""
        for nprobe, recall in self.points:
            if recall >= target:
                return nprobe
        return self.points[-1][0] if self.points else 1

    def at(self, nprobe: int) -> float:
        """Recall measured with so many lists or the next fewer; 0 when there is no such measurement."""
        return max((recall for lists, recall in self.points if lists <= nprobe), default=0.0)


class Nearest:
    """The true neighbours of held-out vectors, found while all vectors pass by once."""

    def __init__(self, items: Items, queries: Vectors) -> None:
        self._own, self._queries = items, queries
        # Two more than are looked for: each finds itself, and the first beyond tells whether there is a tie.
        self._width = NEIGHBOURS + 2
        self._scores = np.full((len(items), self._width), -np.inf, dtype=np.float32)
        self._items = np.full((len(items), self._width), -1, dtype=np.int64)

    def see(self, items: Items, vectors: Vectors) -> None:
        """Takes a piece of the vectors into account."""
        if not len(self._own) or not len(items):
            return
        # By FAISS, not NumPy: its threads are limited for the calling thread alone.
        near, rows = faiss.knn(
            self._queries, vectors, min(self._width, len(items)), metric=faiss.METRIC_INNER_PRODUCT
        )
        scores = np.concatenate([self._scores, near], axis=1)
        named = np.concatenate([self._items, items[rows]], axis=1)
        best = np.argpartition(scores, -self._width, axis=1)[:, -self._width :]
        self._scores = np.take_along_axis(scores, best, axis=1)
        self._items = np.take_along_axis(named, best, axis=1)

    def measure(self, search: Callable[[Vectors, int], Items], nlist: int) -> RecallTable:
        """Recall of `search(queries, nprobe)`, which answers candidate items, by number of lists."""
        truth = [self._others(at) for at in range(len(self._own))]
        if not any(len(one) for one in truth):
            # Nothing but duplicates: nothing is known, so everything is probed.
            return RecallTable(((nlist, 1.0),))
        points: list[tuple[int, float]] = []
        for nprobe in steps(min(nlist, GPU_MAX_NPROBE)):
            recall = _recall(truth, search(self._queries, nprobe))
            points.append((nprobe, max(recall, points[-1][1] if points else 0.0)))
            if recall >= _ENOUGH:
                break
        return RecallTable(tuple(points))

    def _others(self, at: int) -> Items:
        order = np.argsort(-self._scores[at], kind="stable")
        others = order[(self._items[at][order] != self._own[at]) & (self._items[at][order] >= 0)]
        scores = self._scores[at][others]
        if len(others) > NEIGHBOURS and scores[NEIGHBOURS - 1] - scores[NEIGHBOURS] < _TIE:
            # Which of several equals is found says nothing about the search.
            others = others[:0]
        found: Items = self._items[at][others[:NEIGHBOURS]]
        return found


def steps(most: int) -> list[int]:
    """1, 2, 3, 4, 6, 8, 12 ... and the largest possible."""
    found = {most}
    step = 1
    while step < most:
        found |= {step, min(most, step * 3 // 2)}
        step *= 2
    return sorted(found)


def _recall(truth: Sequence[Items], found: Items) -> float:
    """The mean share; rounded down, so that a figure never says more than was seen."""
    shares = [
        len(np.intersect1d(want, got)) / len(want)
        for want, got in zip(truth, found, strict=True)
        if len(want)
    ]
    return float(np.floor(np.mean(shares) * 1e4) / 1e4)
