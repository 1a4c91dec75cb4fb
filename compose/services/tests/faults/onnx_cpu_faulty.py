"""The CPU engine with a fault of faulty.py, chosen by the variable `FAULTY_ENGINE`; else the real one.

It takes the place of `gpuctl_serving/engines/onnx_cpu.py`, which stays beside it as `onnx_cpu_real.py`.
"""

import importlib
import os
from pathlib import Path
from typing import Any

from gpuctl_serving.engines.protocol import Engine, EngineFacts, Rows, TokenBatch

#: Only there once a test has put them there.
_REAL = "gpuctl_serving.engines.onnx_cpu_real"
_FAULTY = "gpuctl_serving.engines.faulty"


class OnnxCpuEngine:
    """The real engine with one fault."""

    def __init__(self, *given: Any) -> None:
        self._faulty = importlib.import_module(_FAULTY)
        self._faults = self._faulty.Faults(os.environ.get("FAULTY_ENGINE", ""))
        self._real: Engine = importlib.import_module(_REAL).OnnxCpuEngine(*given)

    def load(self, model: Path) -> EngineFacts:
        self._faults.at_load()
        return self._real.load(model)

    def infer(self, batch: TokenBatch) -> Rows:
        fault = self._faults.before(batch)
        rows: Rows = self._faulty.spoil(fault, self._real.infer(batch))
        return rows

    def probe(self) -> tuple[str, ...]:
        return self._real.probe()

    def memory(self) -> int:
        return self._real.memory()

    def close(self) -> None:
        self._real.close()
