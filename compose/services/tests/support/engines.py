"""Engines that do as they are told, for tests of what surrounds an engine."""

import threading
from pathlib import Path

import numpy as np

from gpuctl_serving.engines.protocol import EngineFacts, OutOfMemory, Rows, TokenBatch


class SummingEngine:
    """Answers each row with (sum of its ids, number of its tokens): exact, whatever batch it was in."""

    def __init__(self) -> None:
        self.batches: list[tuple[int, int]] = []
        #: First id of each row of each batch.
        self.firsts: list[list[int]] = []
        #: Cleared by a test that wants the engine to wait in the middle of a batch.
        self.go = threading.Event()
        self.go.set()
        self.running = threading.Event()

    def load(self, model: Path) -> EngineFacts:
        return EngineFacts("cpu", "summing", "float32", self.probe(), 1)

    def infer(self, batch: TokenBatch) -> Rows:
        self.batches.append((batch.ids.shape[0], batch.ids.shape[1]))
        self.firsts.append(batch.ids[:, 0].tolist())
        self.running.set()
        self.go.wait(10)
        totals = (batch.ids * batch.mask).sum(axis=1)
        return np.stack([totals, batch.mask.sum(axis=1)], axis=1).astype(np.float32)

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
        self._most = most_rows

    def infer(self, batch: TokenBatch) -> Rows:
        if batch.ids.shape[0] > self._most:
            raise OutOfMemory(f"{batch.ids.shape[0]} rows do not fit")
        return super().infer(batch)


class PoisonedEngine(SummingEngine):
    """Answers NaN for rows that start with a given id."""

    def __init__(self, poison: int) -> None:
        super().__init__()
        self._poison = poison

    def infer(self, batch: TokenBatch) -> Rows:
        rows = super().infer(batch)
        rows[batch.ids[:, 0] == self._poison] = np.nan
        return rows
