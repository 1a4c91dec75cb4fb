"""What an engine is: the only code that touches a device."""

from collections.abc import Sequence
from dataclasses import dataclass
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
    """The device cannot be used again by this process."""


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
    """Rows padded on the right to one length."""

    ids: Ids
    mask: Ids
    types: Ids

    @classmethod
    def of(cls, rows: Sequence[Tokens], pad_id: int) -> "TokenBatch":
        """Pads `rows` to the longest of them."""
        width = max(len(row) for row in rows)
        ids = np.full((len(rows), width), pad_id, np.int32)
        mask = np.zeros((len(rows), width), np.int32)
        types = np.zeros((len(rows), width), np.int32)
        for index, row in enumerate(rows):
            ids[index, : len(row)] = row.ids
            mask[index, : len(row)] = 1
            if row.types is not None:
                types[index, : len(row)] = row.types
        return cls(ids, mask, types)


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

    def close(self) -> None:
        """Gives the device's memory back."""
