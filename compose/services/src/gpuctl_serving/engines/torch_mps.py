"""PyTorch on the GPU of an Apple machine."""

from typing import Any

import torch

from gpuctl_serving.engines.protocol import EngineBroken
from gpuctl_serving.engines.torch_engine import TorchEngine


class TorchMpsEngine(TorchEngine):
    """See Engine."""

    device = "mps"

    def open_device(self, memory_mib: int) -> Any:
        """See TorchEngine."""
        if not torch.backends.mps.is_available():
            raise EngineBroken(f"PyTorch {torch.__version__} finds no Apple GPU here")
        return torch.device("mps")

    def memory(self) -> int:
        """See Engine."""
        return int(torch.mps.driver_allocated_memory())

    def trim(self) -> None:
        """See TorchEngine."""
        if torch.backends.mps.is_available():
            torch.mps.empty_cache()
