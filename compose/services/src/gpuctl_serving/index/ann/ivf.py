"""Inverted lists: a search probes the lists whose centroids are near. IVFFlat keeps vectors, IVFPQ codes."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import numpy as np

from gpuctl_serving.index.ann.library import faiss, write_index
from gpuctl_serving.index.ann.near import (
    BY_DEFAULT,
    NOTHING,
    Effort,
    Finds,
    Items,
    Scores,
    Truth,
    exact_scores,
)
from gpuctl_serving.index.ann.numbers import NumberMap
from gpuctl_serving.index.ann.plan import GPU_MAX_K, Plan
from gpuctl_serving.index.ann.recall import NEIGHBOURS, RecallTable
from gpuctl_serving.index.ann.share import threads_for
from gpuctl_serving.index.vectors import Vectors

#: A filtered search over fewer items than this multiplies them all: exact, and faster than probing.
_GATHERED_FLAT = 8192
#: Their true vectors come from the database, so fewer.
_GATHERED_PQ = 1024
#: Candidates by their codes for each result; their true vectors decide. More where codes tell little.
REFINES = (10, 20, 40)
_FEWEST_CANDIDATES = 64
#: Candidates beyond k where the lists hold true vectors: room for ties.
_MARGIN = 8
#: FAISS sums in float32: its score of one that belongs among the best may be this far below the k-th's.
_CLOSE = 4e-6
#: A filter leaves fewer matches in each list, so more lists are probed, by at most this factor.
_WIDER = 20
#: FAISS's table from item to place, bytes an entry.
_DIRECT_MAP_BYTES = 56

Prepared = tuple[Items, Any]


class IvfIndex:
    """Readers may share it; a writer may not.

    A table from item to its place makes a removal take the last of the list into the gap: no tombstones,
    nothing to compact. Scores are always those of the true vectors, in float64.
    """

    def __init__(self, raw: Any, plan: Plan, truth: Truth, trained_with: int) -> None:
        self.plan, self.trained_with = plan, trained_with
        self.recall = RecallTable()
        self.refine = REFINES[0]
        self._index, self._truth = raw, truth
        #: Which items are here: FAISS's own table cannot be asked without an exception for each that is not.
        self._present = NumberMap()

    @classmethod
    def of(cls, raw: Any, plan: Plan, truth: Truth, trained_with: int, recall: RecallTable) -> "IvfIndex":
        """An index read from a file. Raises ValueError when it is not what the plan says."""
        kinds = {"IVFFlat": faiss.IndexIVFFlat, "IVFPQ": faiss.IndexIVFPQ}
        if not isinstance(raw, kinds[plan.kind]) or raw.nlist != plan.nlist or not raw.is_trained:
            raise ValueError(f"the file does not hold a trained {plan.kind} of {plan.nlist} lists")
        if plan.kind == "IVFPQ" and plan.m != raw.pq.M:
            raise ValueError(f"the file has codes of {raw.pq.M} bytes, not {plan.m}")
        raw.set_direct_map_type(faiss.DirectMap.Hashtable)
        index = cls(raw, plan, truth, trained_with)
        index.recall = recall
        for item in index.items().tolist():
            index._present.set(item, 0)
        if len(index._present) != raw.ntotal:
            raise ValueError("an item is listed twice")
        return index

    def write(self, path: Path) -> None:
        """Writes it as a FAISS file. Raises OSError."""
        write_index(self._index, path)

    def __len__(self) -> int:
        return int(self._index.ntotal)

    @property
    def bytes(self) -> int:
        """Memory the lists, the centroids and the table of places take, roughly."""
        each = int(self._index.code_size) + 8 + _DIRECT_MAP_BYTES
        fixed = self.plan.nlist * int(self._index.d) * 4
        return (
            self._present.bytes
            + len(self) * each
            + fixed
            + (256 * int(self._index.d) * 4 if self.plan.kind == "IVFPQ" else 0)
        )

    def items(self) -> Items:
        """Every item, list by list."""
        lists = self._index.invlists
        parts = []
        for at in range(self.plan.nlist):
            size = lists.list_size(at)
            if size:
                parts.append(faiss.rev_swig_ptr(lists.get_ids(at), size).astype(np.int64))
        return np.concatenate(parts) if parts else np.empty(0, np.int64)

    def prepare(self, items: Items, vectors: Vectors) -> Prepared:
        """See VectorIndex: finds the lists and makes the codes."""
        return items, self._index.sa_encode(np.ascontiguousarray(vectors))

    def put(self, prepared: Prepared) -> None:
        """See VectorIndex."""
        items, codes = prepared
        self._index.remove_ids(items)
        self._index.add_sa_codes(codes, items)
        for item in items.tolist():
            self._present.set(item, 0)

    def remove(self, items: Sequence[int]) -> None:
        """See VectorIndex."""
        here = [item for item in items if self._present.pop(item) is not None]
        if here:
            self._index.remove_ids(np.asarray(here, dtype=np.int64))

    def facts(self) -> dict[str, Any]:
        """See VectorIndex."""
        code = {"m": self.plan.m, "refine": self.refine} if self.plan.kind == "IVFPQ" else {}
        return {
            "type": self.plan.kind,
            "trained": True,
            "trainedWith": self.trained_with,
            "nlist": self.plan.nlist,
            **code,
            "bytes": self.bytes,
            "recall": [{"nprobe": nprobe, "recall": recall} for nprobe, recall in self.recall.points],
        }

    def probes(self, effort: Effort) -> int:
        """How many lists an effort means here."""
        if effort.nprobe is not None:
            return min(effort.nprobe, self.plan.nlist)
        return self.recall.probe_for(effort.recall or 0.95)

    def search(
        self,
        queries: Vectors,
        k: int,
        only: Sequence[int] | None,
        threads: int,
        effort: Effort = BY_DEFAULT,
    ) -> list[Finds]:
        """See VectorIndex."""
        if len(self) == 0 or (only is not None and not only):
            return [NOTHING for _ in queries]
        if only is not None and len(only) <= max(k, self._gathered()):
            return self._scored_all(queries, np.asarray(only, dtype=np.int64))
        nprobe = self.probes(effort)
        compared = self.plan.nlist + len(self) * nprobe / self.plan.nlist
        products = len(queries) * compared * int(self._index.d)
        faiss.omp_set_num_threads(threads_for(products, threads) if len(queries) > 1 else 1)
        fetch = min(len(self), self.candidates(k))
        if only is None:
            return self._best(queries, k, *self._probe(queries, fetch, nprobe))
        share = max(len(only) / len(self), 1 / _WIDER)
        chosen = np.asarray(only, dtype=np.int64)
        fetch = min(fetch, len(chosen))
        nprobe = min(self.plan.nlist, int(nprobe / share))
        return self._best(queries, k, *self._chosen(queries, fetch, nprobe, chosen))

    def candidates(self, k: int) -> int:
        """How many to fetch by lists and codes for `k` results by true vectors."""
        if self.plan.kind == "IVFFlat":
            return min(k + _MARGIN, GPU_MAX_K)
        return min(max(self.refine * k, _FEWEST_CANDIDATES), GPU_MAX_K)

    def measured(self, queries: Vectors, nprobe: int) -> Items:
        """Candidates of a recall measurement, which looks for ten neighbours beside the query itself."""
        return self._probe(queries, self.candidates(NEIGHBOURS + 1), nprobe)[1]

    def score(self, queries: Vectors, found: Items) -> list[Finds]:
        """True scores of candidates found elsewhere (a row of items for each query, -1 for none)."""
        rows, columns = np.nonzero(found >= 0)
        wanted = found[rows, columns]
        named, vectors = self._vectors(np.unique(wanted))
        if len(named) == 0:
            return [NOTHING for _ in queries]
        places = np.minimum(np.searchsorted(named, wanted), len(named) - 1)
        # What was deleted under this search has no vector any more.
        still = named[places] == wanted
        return _scored(queries, rows[still], wanted[still], vectors[places[still]])

    def _gathered(self) -> int:
        return _GATHERED_FLAT if self.plan.kind == "IVFFlat" else _GATHERED_PQ

    def _probe(
        self, queries: Vectors, fetch: int, nprobe: int, selector: Any = None
    ) -> tuple[Vectors, Items]:
        parameters = faiss.SearchParametersIVF(nprobe=nprobe, sel=selector)
        return cast(tuple[Vectors, Items], self._index.search(queries, fetch, params=parameters))

    def _chosen(self, queries: Vectors, fetch: int, nprobe: int, only: Items) -> tuple[Vectors, Items]:
        selector = faiss.IDSelectorBatch(only)
        rough, found = self._probe(queries, fetch, nprobe, selector)
        short = (found < 0).any(axis=1)
        if short.any() and nprobe < self.plan.nlist:
            # Some lists had too few matches: these queries look into all of them.
            rough[short], found[short] = self._probe(queries[short], fetch, self.plan.nlist, selector)
        return rough, found

    def _best(self, queries: Vectors, k: int, rough: Vectors, found: Items) -> list[Finds]:
        """Scores what can be among the best: FAISS's own sums are near enough to leave the rest out."""
        if self.plan.kind != "IVFFlat":
            return self.score(queries, found)
        wanted = found >= 0
        if found.shape[1] > k:
            wanted &= rough >= rough[:, k - 1 : k] - _CLOSE
        rows, columns = np.nonzero(wanted)
        items = found[rows, columns]
        return _scored(queries, rows, items, self._index.reconstruct_batch(items))

    def _scored_all(self, queries: Vectors, only: Items) -> list[Finds]:
        named, vectors = self._vectors(np.unique(only))
        return [Finds(named, exact_scores(vectors, query)) for query in queries]

    def _vectors(self, items: Items) -> tuple[Items, Vectors]:
        """The true vectors of items, in the items' order; those that are not here are left out."""
        if self.plan.kind == "IVFPQ":
            named, vectors = self._truth.of(items.tolist())
            order = np.argsort(named)
            return named[order], vectors[order]
        # Candidates may come from a GPU's older copy, and a filter's items from a newer database.
        there = np.array([item for item in items.tolist() if item in self._present], dtype=np.int64)
        return there, self._index.reconstruct_batch(there)


def _scored(queries: Vectors, rows: Items, items: Items, vectors: Vectors) -> list[Finds]:
    """The finds of each query; `items` and their `vectors` are those of `rows`, which are in order."""
    scores: Scores = exact_scores(vectors, queries, rows) if len(rows) else np.empty(0)
    ends = np.searchsorted(rows, np.arange(len(queries) + 1)).tolist()
    return [Finds(items[start:end], scores[start:end]) for start, end in pairwise(ends)]
