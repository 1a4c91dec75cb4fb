"""PyTorch on an NVIDIA GPU, in float16 unless float32 is asked for."""

import contextlib
import os
from typing import Any

# Before PyTorch is imported: batches of every length would cut the memory of the default allocator into
# pieces that no longer hold a large one.
os.environ.setdefault("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")

import torch

from gpuctl_serving.engines.budget import MIB
from gpuctl_serving.engines.protocol import EngineBroken, TokenBatch
from gpuctl_serving.engines.torch_engine import TorchEngine


class TorchCudaEngine(TorchEngine):
    """See Engine."""

    device = "cuda"
    _allowed = 0

    def open_device(self, memory_mib: int) -> Any:
        """See TorchEngine."""
        if not torch.cuda.is_available():
            raise EngineBroken(f"PyTorch {torch.__version__} finds no usable CUDA device: {_why()}")
        # Sums of a product stay in float32: a third-decimal error is not worth the few percent.
        torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction = False
        # cuDNN builds a plan for every new shape, and batches of texts hardly ever have the same one twice.
        torch.backends.cuda.enable_cudnn_sdp(False)
        device = torch.device("cuda", torch.cuda.current_device())
        total = torch.cuda.mem_get_info(device)[1]
        self._allowed = min(total, memory_mib * MIB) if memory_mib else total
        if self._allowed < total:
            torch.cuda.set_per_process_memory_fraction(self._allowed / total, device)
        return device

    def measure(self, batch: TokenBatch) -> tuple[int, int, int]:
        """See TorchEngine. The first run loads kernels and cuBLAS' workspace: the second is measured."""
        self.run(batch)
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        self.run(batch)
        token = (torch.cuda.max_memory_allocated() - before) // len(batch.flat)
        self.trim()
        free_on_card = torch.cuda.mem_get_info()[0]
        return self._allowed, min(free_on_card, self._allowed - before), token

    def describe(self, device: Any) -> str:
        """See TorchEngine: `cuda:0 Tesla T4 sm_75`."""
        major, minor = torch.cuda.get_device_capability(device)
        return f"{device} {torch.cuda.get_device_name(device)} sm_{major}{minor}"

    def memory(self) -> int:
        """See Engine."""
        return int(torch.cuda.memory_reserved())

    def trim(self) -> None:
        """See TorchEngine."""
        # A lost device cannot be asked to give back; its process ends.
        with contextlib.suppress(RuntimeError):
            torch.cuda.empty_cache()


def _why() -> str:
    if not torch.backends.cuda.is_built():
        return "it is built without CUDA"
    try:
        torch.cuda.init()
    except (RuntimeError, AssertionError) as failure:
        return str(failure).splitlines()[0]
    return "it says nothing more"
