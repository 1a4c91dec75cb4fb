"""From what an engine answers to scores: higher is better, 0 to 1 unless raw."""

import numpy as np
from numpy.typing import NDArray

from gpuctl_serving.engines.protocol import Rows
from gpuctl_serving.models.probing import unit

Scores = NDArray[np.float32]


def sigmoid(logits: Rows) -> Scores:
    """1 / (1 + e^-x) in FP32, without overflow at either end."""
    x = logits.astype(np.float32)
    decay = np.exp(-np.abs(x))
    return np.where(x >= 0, 1 / (1 + decay), decay / (1 + decay)).astype(np.float32)


def cosines(rows: Rows) -> Scores:
    """Cosine of the first row (the query) to each other row."""
    vectors = unit(rows)
    cosine: Scores = np.clip(vectors[1:] @ vectors[0], -1.0, 1.0).astype(np.float32)
    return cosine


def from_cosine(cosine: Scores) -> Scores:
    """Cosine mapped to 0 ... 1, keeping the order: (1 + cosine) / 2."""
    return ((1 + cosine) / 2).astype(np.float32)


def ranking(scores: Scores) -> list[int]:
    """Indices, best first; equal scores in the order they were given."""
    return [int(index) for index in np.argsort(-scores, kind="stable")]
