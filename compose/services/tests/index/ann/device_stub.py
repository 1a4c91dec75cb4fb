"""Takes the place of the GPU in a copy of the package: a CPU's clone that fails as the file it reads says."""

import os
import time
from pathlib import Path
from typing import Any

from gpuctl_serving.index.ann.library import faiss

DEVICE = "cuda"


def available() -> str | None:
    """The front is to believe in a GPU."""
    return None


def _mode() -> str:
    file = os.environ.get("STUB_DEVICE_FILE", "")
    return Path(file).read_text() if file and Path(file).exists() else "fine"


class Gpu:
    """As many bytes as the CPU has."""

    def __init__(self, temp_mib: int) -> None:
        if _mode() == "absent":
            raise RuntimeError("FAISS sees no GPU")

    def clone(self, index: Any, *, float16_tables: bool) -> Any:
        """A copy in this process's memory."""
        if _mode() == "no-room":
            raise RuntimeError("StandardGpuResources: cudaMalloc error out of memory")
        if _mode() == f"no-room-for {index.ntotal}":
            raise RuntimeError("StandardGpuResources: cudaMalloc error out of memory")
        if _mode() == "slow":
            time.sleep(0.8)
        return _Clone(faiss.clone_index(index))


class _Clone:
    def __init__(self, index: Any) -> None:
        self._index = index
        self.nprobe = 1

    def search(self, queries: Any, k: int) -> Any:
        """As a GPU's index, which knows no parameters of a call."""
        match _mode():
            case "die":
                os._exit(9)
            case "hang":
                time.sleep(60)
            case "slow":
                time.sleep(0.8)
            case "oom":
                raise RuntimeError("Error: out of memory trying to allocate 1536 MB")
        if hasattr(self._index, "nprobe"):
            self._index.nprobe = self.nprobe
        return self._index.search(queries, k)
