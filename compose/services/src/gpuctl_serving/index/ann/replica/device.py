"""The GPU itself. Only the replica's process calls more than `available`; tests replace this module."""

from typing import Any

from gpuctl_serving.engines.presence import look
from gpuctl_serving.index.ann.library import faiss

DEVICE = "cuda"


def available() -> str | None:
    """Why no GPU can search; None when one may. Touches no device."""
    if not hasattr(faiss, "StandardGpuResources"):
        return f"the installed FAISS {faiss.__version__} is the CPU build"
    machine = look()
    return None if machine.gpus else machine.hidden or "this machine has no NVIDIA GPU"


class Gpu:
    """The memory FAISS may take on the card beside the indexes."""

    def __init__(self, temp_mib: int) -> None:
        if faiss.get_num_gpus() < 1:
            raise RuntimeError("FAISS sees no GPU; `nvidia-smi` tells whether the driver does")
        self._resources = faiss.StandardGpuResources()
        # FAISS's own default is 1.5 GiB, which models on the same card would miss.
        self._resources.setTempMemory(temp_mib * 1024 * 1024)
        self._resources.setPinnedMemory(16 * 1024 * 1024)

    def clone(self, index: Any, *, float16_tables: bool) -> Any:
        """The index on the card. Raises RuntimeError when it does not fit."""
        options = faiss.GpuClonerOptions()
        options.useFloat16 = float16_tables
        options.indicesOptions = faiss.INDICES_64_BIT
        return faiss.index_cpu_to_gpu(self._resources, 0, index, options)
