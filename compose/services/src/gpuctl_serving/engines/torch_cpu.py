"""PyTorch on the CPU: for parity tests. Serving on a CPU is onnxruntime-cpu's work."""

from gpuctl_serving.engines.torch_engine import TorchEngine


class TorchCpuEngine(TorchEngine):
    """See Engine."""

    device = "cpu"
