"""The searches that are compared: the service's own on the CPU, and FAISS's clone of it on a GPU."""

from collections.abc import Callable
from typing import Any

import numpy as np

from gpuctl_serving.index.ann.flat import FlatIndex
from gpuctl_serving.index.ann.ivf import IvfIndex
from gpuctl_serving.index.ann.library import faiss
from gpuctl_serving.index.ann.near import Items
from gpuctl_serving.index.vectors import Vectors

Search = Callable[[Vectors, int], Items]
_TEMPORARY = 256 * 1024 * 1024


def on_cpu(index: FlatIndex | IvfIndex, threads: int) -> Search:
    """Items of the nearest, best first, -1 where there are fewer; as a request finds them."""

    def search(queries: Vectors, k: int) -> Items:
        found = np.full((len(queries), k), -1, np.int64)
        for at, near in enumerate(index.search(queries, k, None, threads)):
            best = sorted(near, key=lambda one: (-one.score, one.item))[:k]
            found[at, : len(best)] = [one.item for one in best]
        return found

    return search


def gpu_count() -> int:
    """GPUs that this FAISS can search on."""
    return int(faiss.get_num_gpus()) if hasattr(faiss, "StandardGpuResources") else 0


def why_no_gpu() -> str | None:
    """Why nothing is measured on a GPU; None when it is."""
    if not hasattr(faiss, "StandardGpuResources"):
        return f"the installed FAISS {faiss.__version__} is the CPU build"
    return None if gpu_count() else "FAISS sees no GPU"


def on_gpu(raw: Any, gpu: int) -> Search:
    """The same index, cloned to a GPU with little temporary memory."""
    resources = faiss.StandardGpuResources()
    resources.setTempMemory(_TEMPORARY)
    clone = faiss.index_cpu_to_gpu(resources, gpu, raw)

    def search(queries: Vectors, k: int, _keep: Any = resources) -> Items:
        found: Items = clone.search(np.ascontiguousarray(queries), k)[1]
        return found

    return search
