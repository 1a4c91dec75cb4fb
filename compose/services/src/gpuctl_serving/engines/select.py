"""Which engine to run, from what was wished and what this machine has; never silently another.

`plan_engines` decides in the front process, from data. `make_engine` builds in the worker: only there is a
device library imported.
"""

from dataclasses import dataclass
from typing import Literal, Protocol

from gpuctl_serving.engines import presence
from gpuctl_serving.engines.presence import Machine
from gpuctl_serving.engines.protocol import Device, Engine, EngineBroken, EngineSpec
from gpuctl_serving.engines.threads import thread_count
from gpuctl_serving.kit.settings import SettingsError

EngineName = Literal["onnxruntime-cpu", "torch-cuda", "torch-mps", "torch-cpu", "onnxruntime-cuda"]
Dtype = Literal["float32", "float16", "int8"]

_DEVICE_OF: dict[EngineName, Device] = {
    "onnxruntime-cpu": "cpu",
    "torch-cuda": "cuda",
    "torch-mps": "mps",
    "torch-cpu": "cpu",
    "onnxruntime-cuda": "cuda",
}
#: What each engine computes in; the first is what `auto` means.
_DTYPES: dict[EngineName, tuple[Dtype, ...]] = {
    "onnxruntime-cpu": ("float32", "int8"),
    "torch-cuda": ("float16", "float32"),
    # Apple's half precision gave wrong answers often enough to be asked for by name.
    "torch-mps": ("float32", "float16"),
    "torch-cpu": ("float32",),
    "onnxruntime-cuda": ("float32",),
}
_WHY_NOT: dict[tuple[Device, Dtype], str] = {
    ("cpu", "float16"): "half precision on a CPU is many times slower than float32",
    ("cuda", "int8"): "dynamic INT8 on a GPU is many times slower than float16",
    ("mps", "int8"): "dynamic INT8 has no fast path on this GPU",
}


class Wish(Protocol):
    """The settings that choose an engine."""

    @property
    def device(self) -> str:
        """`auto`, `cuda`, `mps` or `cpu`."""

    @property
    def engine(self) -> str:
        """`auto` or an engine's name."""

    @property
    def dtype(self) -> str:
        """`auto`, `float32`, `float16` or `int8`."""

    @property
    def threads(self) -> int:
        """0 for what the cgroup allows."""

    @property
    def vram_mib(self) -> int:
        """0 for all the memory of a GPU."""

    @property
    def sort_batches(self) -> bool:
        """False where a batch is to run as it is."""


@dataclass(frozen=True)
class EnginePlan:
    """What to run, what answers when that fails, and why it is not on the device that was wished."""

    primary: EngineSpec
    #: None when the primary is the engine of last resort itself.
    fallback: EngineSpec | None
    #: Full sentence when the wish cannot be met on this machine (`provider-absent`); None when it is tried.
    reason: str | None
    #: The device that was meant: `cuda` when `auto` met a GPU, even one that lacks its engine.
    wished: Device


def plan_engines(settings: Wish, machine: Machine | None = None) -> EnginePlan:
    """Chooses. Raises SettingsError for a wish that contradicts itself or that no machine can meet."""
    seen = presence.look() if machine is None else machine
    threads = thread_count(settings.threads)
    wished = _wished_device(settings, seen)
    name, missing = _choose(settings, wished, seen)
    dtype = _dtype(settings, name)
    whole = not settings.sort_batches
    resort = EngineSpec("onnxruntime-cpu", "cpu", "float32", threads, whole_batches=whole)
    if missing is not None:
        # The wished precision belonged to the wished device: INT8 on the CPU is asked for by name only.
        return EnginePlan(resort, None, missing, wished)
    mib = 0 if wished == "cpu" else settings.vram_mib
    primary = EngineSpec(name, wished, dtype, threads, mib, whole)
    return EnginePlan(primary, None if wished == "cpu" else resort, None, wished)


def _wished_device(settings: Wish, machine: Machine) -> Device:
    named = _named(settings)
    match settings.device:
        case "cuda" | "mps" | "cpu" as device:
            if named is not None and _DEVICE_OF[named] != device:
                raise SettingsError(
                    [
                        f"GPUCTL_ENGINE={named} runs on {_DEVICE_OF[named]}, but GPUCTL_DEVICE={device}. "
                        f"Set GPUCTL_DEVICE={_DEVICE_OF[named]} or GPUCTL_ENGINE=auto"
                    ]
                )
            return device
    if named is not None:
        return _DEVICE_OF[named]
    if machine.gpus:
        return "cuda"
    # A Mac without PyTorch is served by its CPU as any other machine without a GPU: nothing is missing.
    return "mps" if machine.apple and machine.torch is not None else "cpu"


def _choose(settings: Wish, device: Device, machine: Machine) -> tuple[EngineName, str | None]:
    """The engine for a device, and what the machine lacks for it."""
    named = _named(settings)
    if device == "cpu":
        return named or "onnxruntime-cpu", _no_torch(machine) if named == "torch-cpu" else None
    if device == "mps":
        missing = (
            _no_torch(machine) if machine.apple else "mps was asked for, but this is not an Apple machine"
        )
        return "torch-mps", missing
    if named == "onnxruntime-cuda" or (
        named is None and machine.onnxruntime_gpu and not machine.torch_has_cuda
    ):
        return "onnxruntime-cuda", _no_gpu(machine) or _no_onnxruntime(machine)
    return "torch-cuda", _no_gpu(machine) or _no_cuda_torch(machine)


def _no_gpu(machine: Machine) -> str | None:
    if machine.gpus:
        return None
    if machine.hidden is not None:
        return f"cuda was asked for, but {machine.hidden}. Unset it"
    return (
        "cuda was asked for, but no NVIDIA GPU is visible (no answer from NVML, no /dev/nvidia0). "
        "Look at `nvidia-smi`, and whether the container was given the GPU"
    )


def _no_cuda_torch(machine: Machine) -> str | None:
    if machine.torch_has_cuda:
        return None
    gpu = machine.gpus[0] if machine.gpus else "a GPU"
    lack = "PyTorch is not installed" if machine.torch is None else f"PyTorch {machine.torch} has no CUDA"
    return (
        f"{gpu} is here, but {lack} in this service's Python environment. "
        "Install `torch` (or `onnxruntime-gpu`) there"
    )


def _no_onnxruntime(machine: Machine) -> str | None:
    if machine.onnxruntime_gpu is not None:
        return None
    return "GPUCTL_ENGINE=onnxruntime-cuda was asked for, but the package `onnxruntime-gpu` is not installed"


def _no_torch(machine: Machine) -> str | None:
    return (
        None
        if machine.torch is not None
        else "PyTorch was asked for, but the package `torch` is not installed"
    )


def _dtype(settings: Wish, name: EngineName) -> Dtype:
    for dtype in _DTYPES[name]:
        if settings.dtype in {"auto", dtype}:
            return dtype
    wished = settings.dtype
    why = next((why for (on, of), why in _WHY_NOT.items() if (on, of) == (_DEVICE_OF[name], wished)), None)
    because = f": {why}" if why else ""
    allowed = " or ".join(_DTYPES[name])
    raise SettingsError(
        [f"GPUCTL_DTYPE={wished} is refused with {name}{because}. Set GPUCTL_DTYPE to auto, {allowed}"]
    )


def _named(settings: Wish) -> EngineName | None:
    for name in _DEVICE_OF:
        if settings.engine == name:
            return name
    return None


def make_engine(spec: EngineSpec) -> Engine:
    """Builds the engine of a spec; imports its library. Raises EngineBroken when that cannot be imported."""
    try:
        return _make(spec)
    except ImportError as failure:
        raise EngineBroken(f"{spec.name} cannot be imported here: {failure}") from failure


def _make(spec: EngineSpec) -> Engine:
    match spec.name:
        case "onnxruntime-cpu":
            from gpuctl_serving.engines.onnx_cpu import OnnxCpuEngine

            return OnnxCpuEngine(spec.threads, spec.dtype, spec.whole_batches)
        case "onnxruntime-cuda":
            from gpuctl_serving.engines.onnx_cuda import OnnxCudaEngine

            return OnnxCudaEngine(spec)
        case "torch-cuda":
            from gpuctl_serving.engines.torch_cuda import TorchCudaEngine

            return TorchCudaEngine(spec)
        case "torch-mps":
            from gpuctl_serving.engines.torch_mps import TorchMpsEngine

            return TorchMpsEngine(spec)
        case "torch-cpu":
            from gpuctl_serving.engines.torch_cpu import TorchCpuEngine

            return TorchCpuEngine(spec)
    raise EngineBroken(f"there is no engine named {spec.name}")
