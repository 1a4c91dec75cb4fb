"""What a search finds, what it was asked for, and how scores are made the same on every device."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from gpuctl_serving.index.ann.plan import Plan
from gpuctl_serving.index.vectors import Vectors

Items = NDArray[np.int64]
Scores = NDArray[np.float64]

DIGITS = 6
#: Products made at once: they stay in the core's cache, and in memory that the process has already.
_PRODUCTS = 24_576


@dataclass(frozen=True, slots=True)
class Near:
    """A found item and its cosine, rounded so that every device gives the same order."""

    item: int
    score: float


@dataclass(frozen=True, slots=True)
class Effort:
    """How hard to look: lists to probe, or the share of the true neighbours to find. Flat finds all."""

    nprobe: int | None = None
    recall: float | None = None


BY_DEFAULT = Effort()


@dataclass(frozen=True, slots=True, eq=False)
class Finds:
    """What one query found: items and their cosines, side by side, each item once, in no order."""

    items: Items
    scores: Scores

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[Near]:
        for item, score in zip(self.items.tolist(), self.scores.tolist(), strict=True):
            yield Near(item, score)

    def best(self, k: int) -> "Finds":
        """The best `k`, and whatever ties with the k-th."""
        if len(self) <= k:
            return self
        among = self.scores >= np.partition(self.scores, len(self) - k)[len(self) - k]
        return Finds(self.items[among], self.scores[among])

    def updated(self, newer: "Finds") -> "Finds":
        """With the finds of a newer search in place of those of the same items."""
        kept = ~np.isin(self.items, newer.items)
        return Finds(
            np.concatenate([self.items[kept], newer.items]), np.concatenate([self.scores[kept], newer.scores])
        )


NOTHING = Finds(np.empty(0, np.int64), np.empty(0))


class Truth(Protocol):
    """The true vectors, wherever they are kept: the database, or a dict in a test."""

    def of(self, items: Sequence[int]) -> tuple[Items, Vectors]:
        """The items among these that are there, and their vectors."""

    def every(self, ns: int) -> Iterator[tuple[Items, Vectors]]:
        """All of a namespace in pieces. What changes meanwhile may be seen before or after its change."""


class VectorIndex(Protocol):
    """One namespace's vectors. Searches may share it; one thread changes it while nobody searches."""

    plan: Plan

    def __len__(self) -> int: ...

    @property
    def bytes(self) -> int:
        """Memory taken, roughly."""

    def items(self) -> Items:
        """Every item, in the index's own order."""

    def prepare(self, items: Items, vectors: Vectors) -> Any:
        """The slow part of `put`, while others search; the result is good until the next change."""

    def put(self, prepared: Any) -> None:
        """Adds or replaces what was prepared; its items are distinct."""

    def remove(self, items: Sequence[int]) -> None:
        """Forgets items; those that are not here are passed over."""

    def search(
        self,
        queries: Vectors,
        k: int,
        only: Sequence[int] | None,
        threads: int,
        effort: Effort = BY_DEFAULT,
    ) -> list[Finds]:
        """For each query its best `k` (among `only`) and perhaps a few more."""

    def candidates(self, k: int) -> int:
        """How many to fetch for `k` results by true vectors."""

    def probes(self, effort: Effort) -> int:
        """How many lists an effort means here; 0 where there are none."""

    def score(self, queries: Vectors, found: Items) -> list[Finds]:
        """True scores of candidates found elsewhere (a row of items for each query, -1 for none)."""

    def write(self, path: Path) -> None:
        """Writes it as a FAISS file."""

    def facts(self) -> dict[str, Any]:
        """What statistics say about it."""


def exact_scores(rows: Vectors, queries: Vectors, of: Items | None = None) -> Scores:
    """Inner products in float64: equal vectors get equal scores wherever they lie.

    Each row's is with its query, `queries[of[at]]`; without `of` there is one query for all rows.
    """
    made = np.empty(len(rows))
    step = max(1, _PRODUCTS // rows.shape[1])
    for start in range(0, len(rows), step):
        part = slice(start, start + step)
        against = queries if of is None else queries[of[part]]
        made[part] = np.multiply(rows[part], against, dtype=np.float64).sum(axis=1)
    # Adding zero turns -0.0 into 0.0.
    return np.round(made, DIGITS) + 0.0
