"""ONNX Runtime on the CPU, FP32."""

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from gpuctl_serving.engines.protocol import (
    DeviceLost,
    EngineBroken,
    EngineFacts,
    OutOfMemory,
    Rows,
    TokenBatch,
)

#: Padded tokens above which a batch's memory is given back to the system after it ran.
_SHRINK_ABOVE = 2048
_INT64 = "tensor(int64)"


class OnnxCpuEngine:
    """One session. Spinning is off: the cores are shared with tokenising, HTTP and neighbours."""

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._session: Any = None
        self._inputs: dict[str, type[np.generic]] = {}
        self._shrink = ort.RunOptions()
        self._shrink.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")

    def load(self, model: Path) -> EngineFacts:
        """See Engine."""
        options = ort.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.inter_op_num_threads = 1
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.add_session_config_entry("session.inter_op.allow_spinning", "0")
        options.log_severity_level = 3
        arena = {"arena_extend_strategy": "kSameAsRequested"}
        try:
            self._session = ort.InferenceSession(
                str(model), options, providers=[("CPUExecutionProvider", arena)]
            )
        except (
            Exception
        ) as failure:  # ONNX Runtime raises its own classes, one per status code, without a base.
            raise EngineBroken(f"ONNX Runtime cannot load {model.name}: {failure}") from failure
        self._inputs = {
            i.name: np.int64 if i.type == _INT64 else np.int32 for i in self._session.get_inputs()
        }
        return EngineFacts(
            device="cpu",
            name=f"onnxruntime {ort.__version__}",
            dtype="float32",
            providers=self.probe(),
            threads=self._threads,
        )

    def infer(self, batch: TokenBatch) -> Rows:
        """See Engine."""
        if self._session is None:
            raise DeviceLost("the session is closed")
        arrays = {"input_ids": batch.ids, "attention_mask": batch.mask, "token_type_ids": batch.types}
        feeds = {name: arrays[name].astype(dtype, copy=False) for name, dtype in self._inputs.items()}
        options = self._shrink if batch.padded_tokens > _SHRINK_ABOVE else None
        try:
            rows = self._session.run(None, feeds, options)[0]
        except Exception as failure:
            if "allocate" in str(failure).lower() or isinstance(failure, MemoryError):
                raise OutOfMemory(str(failure)) from failure
            raise
        rows = np.asarray(rows, dtype=np.float32)
        return rows[:, 0] if rows.ndim == 2 and rows.shape[1] == 1 else rows

    def probe(self) -> tuple[str, ...]:
        """See Engine."""
        if self._session is None:
            raise DeviceLost("the session is closed")
        return tuple(self._session.get_providers())

    def memory(self) -> int:
        """See Engine. The CPU's memory is the process's."""
        return 0

    def close(self) -> None:
        """See Engine."""
        self._session = None
