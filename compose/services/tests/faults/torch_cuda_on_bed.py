"""The stub of a GPU engine, which also holds memory on a GPU of the test bed. Never part of the wheel.

It takes the place of `gpuctl_serving/engines/torch_cuda.py`, with torch_cuda_stub.py beside it. The stand-in
for nvidia-smi (test/support/bed/nvidia-smi) lists its process as long as it lives. `BED_HOLDS_MIB` says how
much it holds; 0 is an engine that says `cuda` and holds nothing.
"""

import importlib
import json
import os
from pathlib import Path
from typing import Any

_stub: Any = importlib.import_module("gpuctl_serving.engines.torch_cuda_stub")


class TorchCudaEngine(_stub.TorchCudaEngine):  # type: ignore[misc]
    """Right answers from the wrong device, and a trace on the right one."""

    def load(self, model: Path) -> Any:
        facts = super().load(model)
        self._claim(int(os.environ.get("BED_HOLDS_MIB", "2048")))
        return facts

    def close(self) -> None:
        self._file.unlink(missing_ok=True)
        super().close()

    @property
    def _file(self) -> Path:
        return Path(f"/tmp/bed-gpu-{os.getpid()}")  # noqa: S108 - where nvidia-smi's stand-in looks

    def _claim(self, mib: int) -> None:
        uuid = os.environ.get("BED_GPUS", "").split(",")[0]
        if mib and uuid:
            self._file.write_text(json.dumps({"uuid": uuid, "mib": mib}))
