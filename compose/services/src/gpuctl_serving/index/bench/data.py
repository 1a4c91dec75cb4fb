"""Vectors to measure with: made, clustered as embeddings are, the same for the same seed."""

from collections.abc import Iterator, Sequence

import numpy as np

from gpuctl_serving.index.ann.near import Items
from gpuctl_serving.index.vectors import Vectors

#: Vectors of one cluster, on average.
_A_CLUSTER = 100
#: Spread of a cluster, as a share of a vector's length.
_SPREAD = 0.6
_CHUNK = 16_384


class Held:
    """Truth (see ann.near) out of one array: item n is row n."""

    def __init__(self, rows: Vectors) -> None:
        self.rows = rows

    def of(self, items: Sequence[int]) -> tuple[Items, Vectors]:
        """See Truth."""
        named = np.asarray(items, dtype=np.int64)
        return named, self.rows[named]

    def every(self, ns: int) -> Iterator[tuple[Items, Vectors]]:
        """See Truth."""
        for start in range(0, len(self.rows), _CHUNK):
            part = self.rows[start : start + _CHUNK]
            yield np.arange(start, start + len(part), dtype=np.int64), part


def clustered(count: int, dimension: int, seed: int) -> Vectors:
    """Unit vectors around random centres."""
    random = np.random.default_rng(seed)
    centres = random.standard_normal((max(1, count // _A_CLUSTER), dimension)).astype(np.float32)
    made = np.empty((count, dimension), np.float32)
    for start in range(0, count, _CHUNK):
        part = made[start : start + _CHUNK]
        owner = random.integers(len(centres), size=len(part))
        part[:] = centres[owner] + _SPREAD * random.standard_normal(part.shape).astype(np.float32)
        part /= np.linalg.norm(part, axis=1, keepdims=True)
    return made


def held_out(rows: Vectors, count: int, seed: int) -> Vectors:
    """Queries near the data that are not in it."""
    random = np.random.default_rng(seed + 1)
    made = rows[random.integers(len(rows), size=count)]
    made = made + _SPREAD / 2 * random.standard_normal(made.shape).astype(np.float32) / np.sqrt(made.shape[1])
    made /= np.linalg.norm(made, axis=1, keepdims=True)
    return np.ascontiguousarray(made, np.float32)
