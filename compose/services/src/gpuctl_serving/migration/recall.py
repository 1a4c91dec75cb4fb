"""Whether the migrated index finds what the source finds; both against exact search over its vectors."""

import time
from typing import Any

import numpy as np

from gpuctl_serving.index.ids import ItemId
from gpuctl_serving.migration import peers
from gpuctl_serving.migration.documents import row_name
from gpuctl_serving.migration.faiss_source import Matrix, Numbers
from gpuctl_serving.migration.material import Material
from gpuctl_serving.models.progress import Progress

_QUERIES = 100
_K = 10
#: Each query is a vector of the source moved by this share of its length: near the data, but not in it.
_NOISE = 0.3


def compare(material: Material, staging: str, progress: Progress) -> dict[str, Any]:
    """Recall@10 of both over held-out queries, and how long each took a query."""
    queries = _queries(material)
    k = min(_K, material.source.kind.count)
    progress.emit({"event": "step", "step": "verify", "state": f"exact search for {len(queries)} queries"})
    truth = [_names(material, row) for row in _exact(material, queries, k)]
    began = time.perf_counter()
    source = [_names(material, row) for row in material.source.search(queries, k)]
    source_ms = (time.perf_counter() - began) * 1000 / len(queries)
    began = time.perf_counter()
    found = peers.nearest(material.spec.index, staging, queries, k)
    found_ms = (time.perf_counter() - began) * 1000 / len(queries)
    return {
        "queries": len(queries),
        "k": k,
        "recall": round(_recall(truth, found), 4),
        "sourceRecall": round(_recall(truth, source), 4),
        "msAQuery": {"source": round(source_ms, 3), "index": round(found_ms, 3)},
    }


def find_texts(material: Material, staging: str, progress: Progress) -> dict[str, Any]:
    """Share of texts that find their own item (or one of the same text) among the first ten."""
    rows = [row for row in material.sample(_QUERIES) if row.document.text]
    progress.emit({"event": "step", "step": "verify", "state": f"searching for {len(rows)} of the texts"})
    k = min(_K, material.source.kind.count)
    began, own = time.perf_counter(), 0
    for row in rows:
        hits = peers.by_text(material.spec.index, staging, row.document.text or "", k)
        own += any(hit["id"] == row.document.id or hit.get("text") == row.document.text for hit in hits)
    return {
        "queries": len(rows),
        "k": k,
        "recall": round(own / len(rows), 4),
        "sourceRecall": None,
        "msAQuery": {"source": None, "index": round((time.perf_counter() - began) * 1000 / len(rows), 3)},
    }


def _queries(material: Material) -> Matrix:
    rows = np.stack([row.vector for row in material.sample(_QUERIES)])
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    noise = np.random.default_rng(42).standard_normal(rows.shape).astype(np.float32)
    noise *= _NOISE * lengths / np.linalg.norm(noise, axis=1, keepdims=True)
    moved = rows + noise
    # Lengths as in the source, so that inner product and L2 mean there what they always meant.
    return np.ascontiguousarray(moved * (lengths / np.linalg.norm(moved, axis=1, keepdims=True)), np.float32)


def _exact(material: Material, queries: Matrix, k: int) -> Numbers:
    """Labels of the true neighbours by the source's own metric, a piece of the source at a time."""
    scores = np.empty((len(queries), 0), np.float32)
    labels = np.empty((len(queries), 0), np.int64)
    for found, vectors in material.source.chunks():
        near = queries @ vectors.T
        if material.source.kind.metric == "l2":
            near = 2 * near - (vectors**2).sum(axis=1)
        scores = np.concatenate([scores, near], axis=1)
        labels = np.concatenate([labels, np.broadcast_to(found, near.shape)], axis=1)
        best = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        scores, labels = np.take_along_axis(scores, best, 1), np.take_along_axis(labels, best, 1)
    return labels


def _names(material: Material, labels: Numbers) -> list[ItemId]:
    known = material.documents
    return [known[label].id if label in known else row_name(label) for label in labels.tolist() if label >= 0]


def _recall(truth: list[list[ItemId]], found: list[list[ItemId]]) -> float:
    return float(np.mean([len(set(t) & set(f)) / len(t) for t, f in zip(truth, found, strict=True)]))
