"""The true vectors of one generation, from the database: what quantised indexes are made and scored from."""

from collections.abc import Iterator, Sequence

import numpy as np

from gpuctl_serving.index.ann.near import Items
from gpuctl_serving.index.reader import Readers
from gpuctl_serving.index.vectors import Vectors, as_matrix

#: Vectors of one read transaction: short ones let the write-ahead log be checkpointed.
_PIECE = 2048


class StoredTruth:
    """See Truth. Any thread may ask; the database's cache, not this process, holds the vectors."""

    def __init__(self, readers: Readers, gen: int, dimension: int) -> None:
        self._readers, self._gen, self._dimension = readers, gen, dimension

    def of(self, items: Sequence[int]) -> tuple[Items, Vectors]:
        """See Truth."""
        with self._readers.snapshot() as snapshot:
            return self._rows(snapshot.vectors(self._gen, items))

    def every(self, ns: int) -> Iterator[tuple[Items, Vectors]]:
        """See Truth."""
        after = 0
        while True:
            with self._readers.snapshot() as snapshot:
                found = snapshot.vectors_after(self._gen, ns, after, _PIECE)
            if not found:
                return
            after = found[-1][0]
            yield self._rows(found)

    def _rows(self, found: list[tuple[int, bytes]]) -> tuple[Items, Vectors]:
        items = np.fromiter((item for item, _ in found), dtype=np.int64, count=len(found))
        return items, as_matrix([vector for _, vector in found], self._dimension)
