"""Which engine to run, from the device wished and what this machine has; never silently another."""

from collections.abc import Callable
from dataclasses import dataclass

from gpuctl_serving.engines.onnx_cpu import OnnxCpuEngine
from gpuctl_serving.engines.protocol import Device, Engine


@dataclass(frozen=True)
class Choice:
    """An engine to try, and why it is not on the device that was wished."""

    device: Device
    create: Callable[[int], Engine]
    #: Full sentence when the wish is not met; None when it is.
    reason: str | None


def choose_engine(wished: str) -> Choice:
    """The CPU engine is the only one of this release; any other wish is answered with a reason."""
    reason = None
    if wished in {"cuda", "mps"}:
        reason = f"{wished} was asked for, but this build has an engine for the CPU only"
    return Choice("cpu", OnnxCpuEngine, reason)
