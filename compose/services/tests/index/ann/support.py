"""Vectors and a truth for tests of indexes without a database."""

from collections.abc import Iterator, Sequence

import numpy as np

from gpuctl_serving.index.ann.near import Items
from gpuctl_serving.index.ann.training import Pace
from gpuctl_serving.index.store import Change
from gpuctl_serving.index.vectors import Vectors


class DictTruth:
    """True vectors in a dict; every item is in namespace 1."""

    def __init__(self, dimension: int) -> None:
        self.dimension = dimension
        self.rows: dict[int, Vectors] = {}

    def of(self, items: Sequence[int]) -> tuple[Items, Vectors]:
        """See Truth."""
        here = [item for item in items if item in self.rows]
        rows = [self.rows[item] for item in here]
        return np.array(here, dtype=np.int64), self._matrix(rows)

    def every(self, ns: int) -> Iterator[tuple[Items, Vectors]]:
        """See Truth."""
        items = sorted(self.rows)
        for start in range(0, len(items), 1000):
            yield self.of(items[start : start + 1000])

    def put(self, items: Sequence[int], rows: Vectors) -> list[Change]:
        """Adds or replaces; what a catalog is to be told."""
        self.rows |= dict(zip(items, rows, strict=True))
        return [Change(item, 1, row.tobytes()) for item, row in zip(items, rows, strict=True)]

    def drop(self, items: Sequence[int]) -> list[Change]:
        """Deletes; what a catalog is to be told."""
        for item in items:
            self.rows.pop(item, None)
        return [Change(item, None, None) for item in items]

    def best(self, query: Vectors, k: int, only: Sequence[int] | None = None) -> list[tuple[float, int]]:
        """By brute force: (score, item), best first, ties by item."""
        items = sorted(self.rows) if only is None else [item for item in only if item in self.rows]
        wide = query.astype(np.float64)
        scored = [
            (round(float((self.rows[item].astype(np.float64) * wide).sum()), 6) + 0.0, item) for item in items
        ]
        return sorted(scored, key=lambda pair: (-pair[0], pair[1]))[:k]

    def _matrix(self, rows: list[Vectors]) -> Vectors:
        return np.stack(rows) if rows else np.empty((0, self.dimension), np.float32)


def units(rows: Vectors) -> Vectors:
    """Rows scaled to length one."""
    return np.ascontiguousarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), dtype=np.float32)


def clustered(count: int, dimension: int, *, seed: int = 1, clusters: int = 60) -> Vectors:
    """Unit vectors around some centres, as texts on some subjects are."""
    # The same centres whatever the seed: queries are of the same kind as what they look for.
    centres = units(np.random.default_rng(0).standard_normal((clusters, dimension)).astype(np.float32))
    random = np.random.default_rng(seed)
    noise = random.standard_normal((count, dimension)).astype(np.float32) * (0.6 / dimension**0.5)
    return units(centres[random.integers(clusters, size=count)] + noise)


def unhurried() -> Pace:
    """Nobody wants it to stop."""
    return Pace(lambda: False)
