"""A batch in shared memory: lengths, then ids, then types, each a run of 32-bit integers."""

import numpy as np

from gpuctl_serving.engines.protocol import TokenBatch
from gpuctl_serving.engines.worker.arena import Arena
from gpuctl_serving.engines.worker.records import Infer

_BYTES = 4


def bytes_of(batch: TokenBatch) -> int:
    """What the batch takes in an arena."""
    runs = 1 if batch.flat_types is None else 2
    return _BYTES * (len(batch) + runs * len(batch.flat))


def write_batch(arena: Arena, batch: TokenBatch) -> Infer:
    """Puts a batch into an arena with room for it; returns the record that tells the reader."""
    texts, tokens = len(batch), len(batch.flat)
    arena.array(np.int32, texts)[:] = batch.lengths
    arena.array(np.int32, tokens, _BYTES * texts)[:] = batch.flat
    if batch.flat_types is not None:
        arena.array(np.int32, tokens, _BYTES * (texts + tokens))[:] = batch.flat_types
    return Infer(texts, tokens, batch.flat_types is not None, batch.pad_id)


def read_batch(arena: Arena, record: Infer) -> TokenBatch:
    """The batch, where it lies: valid until the writer writes the next one."""
    texts, tokens = record.texts, record.tokens
    return TokenBatch(
        flat=arena.array(np.int32, tokens, _BYTES * texts),
        flat_types=arena.array(np.int32, tokens, _BYTES * (texts + tokens)) if record.typed else None,
        lengths=arena.array(np.int32, texts),
        pad_id=record.pad_id,
    )
