"""Engines that do as they are told, for tests of what surrounds an engine."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from gpuctl_serving.engines.held import Part
from gpuctl_serving.engines.protocol import (
    Device,
    Engine,
    EngineFacts,
    EngineSpec,
    OutOfMemory,
    Rows,
    TokenBatch,
    Tokens,
)
from gpuctl_serving.models.probing import Verdict

#: What the canary of these engines starts with; no text of a test does.
CANARY = 424_242


class SummingEngine:
    """Answers each row with (sum of its ids, number of its tokens): exact, whatever batch it was in."""

    device: Device = "cpu"

    def __init__(self) -> None:
        self.batches: list[tuple[int, int]] = []
        #: First id of each row of each batch.
        self.firsts: list[list[int]] = []
        #: Cleared by a test that wants the engine to wait in the middle of a batch.
        self.go = threading.Event()
        self.go.set()
        self.running = threading.Event()

    def load(self, model: Path) -> EngineFacts:
        return EngineFacts(self.device, "summing", "float32", self.probe(), 1)

    def infer(self, batch: TokenBatch) -> Rows:
        return self.canary(batch) if int(batch.flat[0]) == CANARY else self.answer(batch)

    def canary(self, batch: TokenBatch) -> Rows:
        return sums(batch)

    def answer(self, batch: TokenBatch) -> Rows:
        self.batches.append((len(batch), batch.width))
        self.firsts.append(batch.ids[:, 0].tolist())
        self.running.set()
        self.go.wait(10)
        return sums(batch)

    def probe(self) -> tuple[str, ...]:
        return ("CPUExecutionProvider",)

    def memory(self) -> int:
        return 0

    def close(self) -> None:
        self.go.set()


class NarrowEngine(SummingEngine):
    """Runs out of memory above a number of rows."""

    def __init__(self, most_rows: int) -> None:
        super().__init__()
        self.most_rows = most_rows

    def answer(self, batch: TokenBatch) -> Rows:
        if len(batch) > self.most_rows:
            raise OutOfMemory(f"{len(batch)} rows do not fit")
        return super().answer(batch)


class PoisonedEngine(SummingEngine):
    """Answers NaN for rows that start with a given id."""

    def __init__(self, poison: int) -> None:
        super().__init__()
        self._poison = poison

    def answer(self, batch: TokenBatch) -> Rows:
        rows = super().answer(batch)
        rows[batch.ids[:, 0] == self._poison] = np.nan
        return rows


def sums(batch: TokenBatch) -> Rows:
    totals = (batch.ids * batch.mask).sum(axis=1)
    return np.stack([totals, batch.mask.sum(axis=1)], axis=1).astype(np.float32)


def row(*ids: int) -> Tokens:
    return Tokens(np.array(ids, np.int32), None, truncated=False)


def right_sums(rows: Rows) -> Verdict:
    """The canary of these engines."""
    right = rows.shape == (1, 2) and rows[0].tolist() == [CANARY + 1, 2]
    return Verdict(right, float(right), f"the sum is {rows.tolist()}")


def part(device: Device = "cpu", *, model: str = "sums", batch_tokens: int = 256) -> Part:
    """A slot for engines that sum."""
    return Part(
        spec=EngineSpec(f"test-{device}", device, "float32", 1),
        file=Path("none"),
        model=model,
        pad_id=0,
        canary=TokenBatch.of([row(CANARY, 1)], 0),
        judge=right_sums,
        shape=(2,),
        batch_tokens=batch_tokens,
    )


@dataclass
class Fleet:
    """A factory that remembers every engine it made, by device, in order."""

    make: Callable[[EngineSpec], Engine]
    made: list[tuple[str, Engine]] = field(default_factory=list)

    def __call__(self, spec: EngineSpec) -> Engine:
        engine = self.make(spec)
        self.made.append((spec.device, engine))
        return engine

    def of(self, device: str) -> list[Engine]:
        return [engine for on, engine in self.made if on == device]
