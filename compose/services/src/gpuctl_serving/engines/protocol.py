"""What an engine is: the only code that touches a device."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int32]
Rows = NDArray[np.float32]
Device = Literal["cuda", "mps", "cpu"]


class EngineError(Exception):
    """An engine cannot do what it was asked. The message is for a person."""


class DeviceLost(EngineError):
    """The device cannot be used again by this engine: close it and make a new one."""


class WorkerDied(DeviceLost):
    """The process of the engine is gone."""


class WorkerHung(DeviceLost):
    """The process of the engine does not answer: no heartbeat, or a batch past its time."""


class OutOfMemory(EngineError):
    """A smaller batch may pass."""


class EngineBroken(EngineError):
    """The engine cannot be loaded: file, provider or graph."""


@dataclass(frozen=True)
class Tokens:
    """One text, or one pair, as the model sees it."""

    ids: Ids
    #: Token types, for models that take them; None means all zero.
    types: Ids | None
    #: Whether something of the text was cut off to fit.
    truncated: bool

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class TokenBatch:
    """The texts of one batch end to end, without padding; engines that need a rectangle ask for it.

    `flat` and `flat_types` have `sum(lengths)` entries, `lengths` one for each text.
    """

    flat: Ids
    #: Token types, or None when all are zero.
    flat_types: Ids | None
    lengths: Ids
    pad_id: int

    @classmethod
    def of(cls, rows: Sequence[Tokens], pad_id: int) -> "TokenBatch":
        """The batch of these rows, in their order."""
        lengths = np.fromiter(map(len, rows), np.int32, len(rows))
        types = None
        if any(row.types is not None for row in rows):
            types = np.concatenate([np.zeros(len(r), np.int32) if r.types is None else r.types for r in rows])
        return cls(np.concatenate([row.ids for row in rows]), types, lengths, pad_id)

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def width(self) -> int:
        """Tokens of the longest text."""
        return int(self.lengths.max())

    @property
    def padded_tokens(self) -> int:
        """Tokens of the rectangle that holds them all."""
        return len(self) * self.width

    @cached_property
    def ids(self) -> Ids:
        """Ids padded on the right with `pad_id`, shape (texts, width)."""
        return self._rectangle(self.flat, self.pad_id)

    @cached_property
    def mask(self) -> Ids:
        """1 where a token is, 0 where padding is, shape (texts, width)."""
        return (np.arange(self.width, dtype=np.int32) < self.lengths[:, None]).astype(np.int32)

    @cached_property
    def types(self) -> Ids:
        """Token types padded with 0, shape (texts, width)."""
        if self.flat_types is None:
            return np.zeros((len(self), self.width), np.int32)
        return self._rectangle(self.flat_types, 0)

    def _rectangle(self, flat: Ids, fill: int) -> Ids:
        padded = np.full((len(self), self.width), fill, np.int32)
        padded[self.mask.astype(bool)] = flat
        return padded


@dataclass(frozen=True)
class EngineSpec:
    """Which engine to make; plain data, so that it can cross into a worker process."""

    #: `onnxruntime-cpu`, `onnxruntime-cuda`, `torch-cuda`, `torch-mps` or `torch-cpu`.
    name: str
    device: Device
    #: `float32`, `float16` or `int8`.
    dtype: str
    threads: int
    #: Most memory it may take of a GPU, MiB; 0 means all of it.
    memory_mib: int = 0
    #: For measuring what sorting is worth: a batch runs as it is, padded to its longest text.
    whole_batches: bool = False


@dataclass(frozen=True)
class EngineFacts:
    """What a loaded engine proved about itself."""

    device: Device
    #: For people and metrics: `onnxruntime 1.31.1`.
    name: str
    dtype: str
    #: Providers of the live session, in its own words.
    providers: tuple[str, ...]
    threads: int
    #: Memory of the device that this engine may use, and what was free of it after loading; 0 when unknown.
    total_bytes: int = 0
    free_bytes: int = 0
    #: What one token of a batch took of it, measured; 0 when unknown.
    token_bytes: int = 0


class Engine(Protocol):
    """Runs one model on one device. Not thread-safe: exactly one thread owns it."""

    def load(self, model: Path) -> EngineFacts:
        """Loads `model` (a model.onnx). Raises EngineBroken."""

    def infer(self, batch: TokenBatch) -> Rows:
        """Return one row per text, shape (n, dim) for embeddings or (n,) logits for pairs.

        Raises DeviceLost when the device cannot be used again, OutOfMemory when a smaller batch may pass.
        Values may be anything: whoever calls checks that they are finite.
        """

    def probe(self) -> tuple[str, ...]:
        """Providers of the live session, asked now. Raises DeviceLost when there is none."""

    def memory(self) -> int:
        """Bytes the engine's allocator holds on the device now; 0 when that is not known."""

    def close(self) -> None:
        """Gives the device's memory back."""
