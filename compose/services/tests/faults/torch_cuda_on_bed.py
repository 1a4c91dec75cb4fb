"""The stub of a GPU engine, which also holds memory on a GPU of the test bed. Never part of the wheel.

It takes the place of `gpuctl_serving/engines/torch_cuda.py`, with torch_cuda_stub.py beside it. The stand-in
for nvidia-smi (test/support/bed/nvidia-smi) lists its process as long as it lives. `BED_HOLDS_MIB` says how
much it holds; 0 is an engine that says `cuda` and holds nothing.
"""

import importlib
import json
import os
import socket
from pathlib import Path
from typing import Any

_stub: Any = importlib.import_module("gpuctl_serving.engines.torch_cuda_stub")
_CLAIMS = Path("/var/lib/gpu/claims")


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
        return _CLAIMS / f"{socket.gethostname()}-{os.getpid()}.json"

    def _claim(self, mib: int) -> None:
        uuid = os.environ.get("BED_GPUS", "").split(",")[0]
        if mib == 0 or not uuid:
            return
        claim = {
            "uuid": uuid,
            "mib": mib,
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "name": "python3",
        }
        self._file.write_text(json.dumps(claim))
