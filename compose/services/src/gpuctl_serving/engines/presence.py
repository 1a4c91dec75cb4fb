"""What this machine has, asked without importing any device library: the front process must stay light."""

import importlib.metadata
import os
import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

DEVICES = Path("/dev")
#: Where WSL2 keeps the driver's library; it has no /dev/nvidia*.
WSL_LIBRARY = Path("/usr/lib/wsl/lib/libnvidia-ml.so.1")


@dataclass(frozen=True)
class Machine:
    """Devices and engine libraries of a machine."""

    #: Names of the NVIDIA GPUs a process may use, as far as they are known; empty means none.
    gpus: tuple[str, ...] = ()
    #: Why there is none, when that is known: an environment variable hides them.
    hidden: str | None = None
    #: Version of PyTorch; None when it is not installed.
    torch: str | None = None
    #: Version of onnxruntime-gpu; None when it is not installed.
    onnxruntime_gpu: str | None = None
    #: Whether this is an Apple machine with a GPU.
    apple: bool = False

    @property
    def torch_has_cuda(self) -> bool:
        """Whether the installed PyTorch may be one with CUDA; its worker proves it."""
        return (
            self.torch is not None and not self.torch.endswith(("+cpu", "+xpu")) and "+rocm" not in self.torch
        )


def look(env: Mapping[str, str] | None = None) -> Machine:
    """Looks at this machine."""
    environment = os.environ if env is None else env
    hidden = _hidden(environment)
    return Machine(
        gpus=() if hidden else gpus(),
        hidden=hidden,
        torch=_version("torch"),
        onnxruntime_gpu=_version("onnxruntime-gpu"),
        apple=platform.system() == "Darwin" and platform.machine() == "arm64",
    )


def gpus(
    devices: Path = DEVICES, ask_driver: "Callable[[], tuple[str, ...]] | None" = None
) -> tuple[str, ...]:
    """NVIDIA GPUs: by the driver's library where it answers, else by their device files."""
    named = (ask_driver or _names_by_nvml)()
    if named:
        return named
    nodes = sorted(node.name for node in devices.glob("nvidia[0-9]*"))
    if not nodes and (devices / "dxg").exists() and WSL_LIBRARY.exists():
        nodes = ["dxg"]
    return tuple(f"/dev/{node}" for node in nodes)


def _names_by_nvml() -> tuple[str, ...]:
    try:
        import pynvml

        pynvml.nvmlInit()
    # Without a driver there is no library to load: each platform raises its own error for that.
    except Exception:
        return ()
    try:
        handles = [pynvml.nvmlDeviceGetHandleByIndex(i) for i in range(pynvml.nvmlDeviceGetCount())]
        return tuple(str(pynvml.nvmlDeviceGetName(handle)) for handle in handles)
    except pynvml.NVMLError:
        return ()
    finally:
        pynvml.nvmlShutdown()


def _hidden(env: Mapping[str, str]) -> str | None:
    """CUDA ignores every GPU from the first number that makes no sense; empty and -1 hide all."""
    value = env.get("CUDA_VISIBLE_DEVICES")
    if value is not None and value.strip() in {"", "-1", "NoDevFiles"}:
        return f"CUDA_VISIBLE_DEVICES={value!r} hides the NVIDIA GPUs"
    return None


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None
