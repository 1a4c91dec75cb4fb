"""ONNX Runtime on the CPU, in float32 or on a quantised graph."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from gpuctl_serving.engines.onnx_session import OnnxSession, session_options
from gpuctl_serving.engines.protocol import (
    EngineBroken,
    EngineError,
    EngineFacts,
    OutOfMemory,
    Rows,
    TokenBatch,
)

#: Padded tokens that one run has for each thread: more makes it no faster, but its memory grows with them.
_RUN_TOKENS_A_THREAD = 512
_LEAST_RUN_TOKENS = 1024


class OnnxCpuEngine:
    """One session, on as many threads as it is given."""

    def __init__(self, threads: int, dtype: str = "float32", whole: bool = False) -> None:
        """`dtype` is what the graph computes in: float32, or int8 where its weights were quantised.

        `whole`: a batch runs at once, however much of it is padding.
        """
        self._dtype = dtype
        self._threads = threads
        self._session = OnnxSession()
        self._run_tokens = sys.maxsize if whole else max(_LEAST_RUN_TOKENS, _RUN_TOKENS_A_THREAD * threads)
        self._shrink = ort.RunOptions()
        self._shrink.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")

    def load(self, model: Path) -> EngineFacts:
        """See Engine."""
        options = session_options(self._threads)
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
        # It would keep a memory plan for every shape it ever saw.
        options.enable_mem_pattern = False
        arena = {"arena_extend_strategy": "kSameAsRequested"}
        try:
            self._session.open(
                ort.InferenceSession(str(model), options, providers=[("CPUExecutionProvider", arena)])
            )
        except (
            Exception
        ) as failure:  # ONNX Runtime raises its own classes, one per status code, without a base.
            raise EngineBroken(f"ONNX Runtime cannot load {model.name}: {failure}") from failure
        return EngineFacts(
            device="cpu",
            name=f"onnxruntime {ort.__version__}",
            dtype=self._dtype,
            providers=self.probe(),
            threads=self._threads,
        )

    def infer(self, batch: TokenBatch) -> Rows:
        """See Engine."""
        rows = [self._run(part) for part in parts(batch, self._run_tokens)]
        return rows[0] if len(rows) == 1 else np.concatenate(rows)

    def _run(self, batch: TokenBatch) -> Rows:
        # One text that is longer than a usual run gives its memory back to the system.
        options = self._shrink if batch.padded_tokens > self._run_tokens else None
        try:
            return self._session.run(batch, options)
        except EngineError:
            raise
        except Exception as failure:
            if "allocate" in str(failure).lower() or isinstance(failure, MemoryError):
                raise OutOfMemory(str(failure)) from failure
            raise

    def probe(self) -> tuple[str, ...]:
        """See Engine."""
        return self._session.providers()

    def memory(self) -> int:
        """See Engine. The CPU's memory is the process's."""
        return 0

    def close(self) -> None:
        """See Engine."""
        self._session.close()


def parts(batch: TokenBatch, most: int) -> Iterator[TokenBatch]:
    """Neighbours of a batch, in order, whose rectangles have at most so many tokens each, or one text."""
    if batch.padded_tokens <= most:
        yield batch
        return
    ends = np.cumsum(batch.lengths)
    first, width = 0, 0
    for index, length in enumerate(batch.lengths.tolist()):
        width = max(width, length)
        if index > first and width * (index + 1 - first) > most:
            yield _between(batch, ends, first, index)
            first, width = index, length
    yield _between(batch, ends, first, len(batch))


def _between(batch: TokenBatch, ends: NDArray[np.integer[Any]], first: int, last: int) -> TokenBatch:
    low, high = int(ends[first] - batch.lengths[first]), int(ends[last - 1])
    types = None if batch.flat_types is None else batch.flat_types[low:high]
    return TokenBatch(batch.flat[low:high], types, batch.lengths[first:last], batch.pad_id)
