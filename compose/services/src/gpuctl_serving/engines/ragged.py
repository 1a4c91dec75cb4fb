"""Texts of different lengths end to end: where each begins, and which of them share a rectangle."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gpuctl_serving.engines.protocol import EngineError, TokenBatch

Index = NDArray[np.int64]

#: A rectangle may hold this share more than its tokens ...
_MOST_WASTE = 1.25
#: ... or so many cells more, because one more rectangle costs more than that.
_SMALL_WASTE = 1024


@dataclass(frozen=True)
class Rectangle:
    """Texts of near lengths side by side."""

    #: Index into the flat tokens, (texts, width); padding points to the text's first token.
    index: Index
    #: True where a token is, (texts, width); None when nothing is padded.
    mask: NDArray[np.bool_] | None


def starts_of(lengths: NDArray[np.int32]) -> Index:
    """Where each text begins in the flat tokens, and after the last one where they end."""
    starts = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=starts[1:])
    return starts


def positions_of(lengths: NDArray[np.int32]) -> NDArray[np.int32]:
    """The position of every token in its own text."""
    starts = starts_of(lengths)
    positions: NDArray[np.int32] = np.arange(starts[-1], dtype=np.int32)
    positions -= np.repeat(starts[:-1], lengths).astype(np.int32)
    return positions


def rectangles(lengths: NDArray[np.int32]) -> list[Rectangle]:
    """Covers all texts, longest first, with few rectangles and little padding."""
    starts = starts_of(lengths)
    order = np.argsort(-lengths, kind="stable")
    groups: list[list[int]] = []
    real = 0
    for text in order.tolist():
        if groups:
            width = int(lengths[groups[-1][0]])
            padded, tokens = width * (len(groups[-1]) + 1), real + int(lengths[text])
            if padded <= tokens * _MOST_WASTE or padded - tokens <= _SMALL_WASTE:
                groups[-1].append(text)
                real = tokens
                continue
        groups.append([text])
        real = int(lengths[text])
    return [_rectangle(np.array(group, np.int64), lengths, starts) for group in groups]


def back_to_flat(parts: list[Rectangle]) -> Index:
    """For every flat token, its place in all rectangles' cells end to end."""
    cells = np.concatenate([part.index.reshape(-1) for part in parts])
    real = np.concatenate([_mask_of(part).reshape(-1) for part in parts])
    places = np.empty(int(real.sum()), np.int64)
    places[cells[real]] = np.flatnonzero(real)
    return places


def check_batch(batch: TokenBatch, *, vocabulary: int, positions: int, segments: int) -> None:
    """Raises EngineError for tokens the model has no row for: on a GPU they would poison the device."""
    if not len(batch.lengths) or int(batch.lengths.min()) < 1:
        raise EngineError("a batch holds a text without tokens")
    if batch.width > positions:
        raise EngineError(f"a text has {batch.width} tokens and the model takes {positions}")
    if int(batch.flat.min()) < 0 or int(batch.flat.max()) >= vocabulary:
        raise EngineError(f"a token id is outside the model's vocabulary of {vocabulary}")
    types = batch.flat_types
    if types is not None and segments and (int(types.min()) < 0 or int(types.max()) >= segments):
        raise EngineError(f"a token type is outside the model's {segments}")


def _rectangle(texts: Index, lengths: NDArray[np.int32], starts: Index) -> Rectangle:
    width = int(lengths[texts[0]])
    columns = np.arange(width)
    mask = columns < lengths[texts][:, None]
    index = np.where(mask, starts[texts][:, None] + columns, starts[texts][:, None])
    return Rectangle(index, None if mask.all() else mask)


def _mask_of(part: Rectangle) -> NDArray[np.bool_]:
    return np.ones(part.index.shape, np.bool_) if part.mask is None else part.mask
