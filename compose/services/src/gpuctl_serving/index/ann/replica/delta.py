"""What changed since the replica's copy was made, and how its answers become today's."""

import time
from dataclasses import dataclass, field

import numpy as np

from gpuctl_serving.index.ann.flat import FlatIndex
from gpuctl_serving.index.ann.near import Finds, Items, Scores, VectorIndex
from gpuctl_serving.index.vectors import Vectors

#: FAISS sums in float32: scores this close to the last may have a neighbour that was not fetched.
_CLOSE = 4e-6
#: With a smaller share of what codes chose left, the recall is another than the one that was measured.
_ENOUGH = 0.5


@dataclass
class Delta:
    """Kept by the catalog under its lock, from the moment the copy was written on."""

    #: Which copy it is, in this process.
    clone: int
    #: What was copied; it may have changed since.
    index: VectorIndex
    dimension: int
    #: Row number -> item, for an index without item numbers of its own.
    items: Items | None
    made: float = field(default_factory=time.monotonic)
    changes: int = 0
    #: Whether the replica has the copy; until then the CPU answers.
    active: bool = False
    #: Searches of the copy that failed since one went well.
    failures: int = 0

    def __post_init__(self) -> None:
        self.fresh = FlatIndex(self.dimension)
        #: How many the copy has, whatever became of them.
        self.size = len(self.index)

    def put(self, items: Items, vectors: Vectors) -> None:
        """These are new, or others than in the copy."""
        self.fresh.put(self.fresh.prepare(items, vectors))
        self.changes += len(items)

    def remove(self, items: list[int]) -> None:
        """These are gone, whatever the copy says."""
        self.fresh.remove(items)
        self.changes += len(items)

    def named(self, ids: Items) -> Items:
        """The items of the copy's ids."""
        if self.items is None:
            return ids
        return np.where(ids >= 0, self.items[np.maximum(ids, 0)], -1)

    def merged(
        self, now: VectorIndex, queries: Vectors, k: int, found: Items, threads: int
    ) -> tuple[list[Finds], list[int]]:
        """Today's answers from the copy's, and the queries whose answer may lack something.

        Scores are those of the vectors of today: what was replaced has its new one, what is gone has none.
        """
        scored = now.score(queries, found)
        kept = self._kept(scored)
        if len(self.fresh):
            extra = self.fresh.search(queries, k, None, threads)
            scored = [old.updated(new) for old, new in zip(scored, extra, strict=True)]
        fetched = found.shape[1]
        all_fetched = (found < 0).any(axis=1) | (fetched >= self.size)
        doubtful = [
            at
            for at, row in enumerate(scored)
            if len(row) < min(k, len(now))
            or (len(row) < len(now) and not all_fetched[at] and self._doubtful(row, kept[at], k, fetched))
        ]
        return scored, doubtful

    def _kept(self, scored: list[Finds]) -> list[Scores]:
        """Scores of the copy's finds that are today what they were when it was made."""
        if not len(self.fresh):
            return [row.scores for row in scored]
        changed = np.sort(self.fresh.items())
        places = (np.searchsorted(changed[:-1], row.items) for row in scored)
        return [row.scores[changed[at] != row.items] for row, at in zip(scored, places, strict=True)]

    def _doubtful(self, row: Finds, kept: Scores, k: int, fetched: int) -> bool:
        """Whether something that the copy has and did not hand over may belong among the best `k`.

        What it kept back is no better than the last of what it handed over, whatever became of that since:
        so no better than the last of those that are as they were.
        """
        if len(kept) == 0:
            return True
        kth = np.partition(row.scores, len(row) - k)[len(row) - k]
        if self.index.plan.kind == "IVFPQ":
            # Codes chose them, not scores: the best are found because there are many times k of them.
            return len(kept) < _ENOUGH * fetched or bool(kth < kept.min())
        # All that ties with the k-th must be there to be put into the order of ids.
        return bool(kth < kept.min() + _CLOSE)
