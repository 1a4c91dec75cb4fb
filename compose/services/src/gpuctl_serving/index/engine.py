"""The FAISS engine as a whole: its version, why no GPU searches, and its canary."""

import numpy as np

from gpuctl_serving.index.ann.flat import FlatIndex
from gpuctl_serving.index.ann.library import faiss


def version() -> str:
    """Version of the FAISS library."""
    return str(faiss.__version__)


def canary() -> tuple[bool, float, str]:
    """A tiny search with a known answer, by the code requests use: (right, score, detail)."""
    corners = np.eye(16, dtype=np.float32)
    index = FlatIndex(16)
    index.put(index.prepare(np.arange(100, 116), corners))
    index.remove([103])
    query = (corners[7] * 0.8 + corners[2] * 0.6).reshape(1, 16)
    found = sorted(index.search(query, 2, None, 1)[0], key=lambda near: -near.score)[:2]
    right = [(near.item, near.score) for near in found] == [(107, 0.8), (102, 0.6)]
    worst = min((near.score for near in found), default=0.0)
    detail = "2 of 15 known neighbours in order" if right else f"expected items 107 and 102, found {found}"
    return right, worst, detail
