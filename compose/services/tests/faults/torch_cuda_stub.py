"""A GPU engine without a GPU: computes with ONNX Runtime on the CPU and says `cuda`. Never part of the wheel.

It takes the place of `gpuctl_serving/engines/torch_cuda.py`. The variable `FAULTY_CUDA` gives it a fault of
faulty.py. presence_with_gpu.py has the front believe that a GPU is there.
"""

import dataclasses
import importlib
import os
from pathlib import Path

from gpuctl_serving.engines.protocol import Engine, EngineFacts, EngineSpec, Rows, TokenBatch

_REAL = "gpuctl_serving.engines.onnx_cpu_real"
_FAULTY = "gpuctl_serving.engines.faulty"
#: What its allocator says it holds.
ALLOCATED = 512 * 1024 * 1024


class TorchCudaEngine:
    """Right answers from the wrong device."""

    def __init__(self, spec: EngineSpec) -> None:
        self._spec = spec
        self._faulty = importlib.import_module(_FAULTY)
        self._faults = self._faulty.Faults(os.environ.get("FAULTY_CUDA", ""))
        self._real: Engine = importlib.import_module(_REAL).OnnxCpuEngine(spec.threads)

    def load(self, model: Path) -> EngineFacts:
        self._faults.at_load()
        facts = self._real.load(model)
        return dataclasses.replace(
            facts, device="cuda", name="stub", dtype=self._spec.dtype, providers=self.probe()
        )

    def infer(self, batch: TokenBatch) -> Rows:
        fault = self._faults.before(batch)
        rows: Rows = self._faulty.spoil(fault, self._real.infer(batch))
        return rows

    def probe(self) -> tuple[str, ...]:
        self._real.probe()
        return ("CUDAExecutionProvider", "stub")

    def memory(self) -> int:
        return ALLOCATED

    def close(self) -> None:
        self._real.close()
