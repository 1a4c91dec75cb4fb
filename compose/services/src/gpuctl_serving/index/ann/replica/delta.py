"""What changed since the replica's copy was made, and how its answers become today's."""

import time
from dataclasses import dataclass, field

import numpy as np

from gpuctl_serving.index.ann.flat import FlatIndex
from gpuctl_serving.index.ann.near import Finds, Items, VectorIndex
from gpuctl_serving.index.vectors import Vectors

#: FAISS sums in float32: scores this close to the last may have a neighbour that was not fetched.
_CLOSE = 4e-6


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
        if len(self.fresh):
            extra = self.fresh.search(queries, k, None, threads)
            scored = [old.updated(new) for old, new in zip(scored, extra, strict=True)]
        doubtful = [at for at, row in enumerate(scored) if self._doubtful(row, k, len(now), found.shape[1])]
        return scored, doubtful

    def _doubtful(self, row: Finds, k: int, count: int, fetched: int) -> bool:
        if len(row) < min(k, count):
            return True
        if self.index.plan.kind != "Flat" or len(row) <= k or fetched >= count:
            return False
        # All that ties with the k-th must be there to be put into the order of ids.
        scores = np.sort(row.scores)
        return bool(scores[0] >= scores[-k] - _CLOSE)
