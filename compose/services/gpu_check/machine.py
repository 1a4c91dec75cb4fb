"""What the figures were measured on."""

import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import pynvml

from gpuctl_serving.engines.memory_limit import available_bytes
from gpuctl_serving.engines.threads import thread_count
from gpuctl_serving.kit.nvml import Nvml

_PACKAGES = ("torch", "onnxruntime", "onnxruntime-gpu", "onnx", "numpy", "tokenizers", "nvidia-ml-py")
_MIB = 1024 * 1024


def describe(root: Path) -> dict[str, Any]:
    """Card, driver, versions, processor: no names of hosts or people."""
    versions: dict[str, str | None] = {}
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = None
    sample, recording = look()
    return {
        "gpus": [
            {"name": gpu.name, "memory_mib": round(gpu.values.get("DCGM_FI_DEV_FB_TOTAL", 0))}
            for gpu in sample.gpus
        ],
        "driver": sample.driver or None,
        "no_gpu_because": sample.absent,
        "processor": _processor(),
        "cores": thread_count(),
        "memory_available_mib": (available_bytes() or 0) // _MIB,
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "packages": versions,
        "commit": _commit(root),
        "nvml_recording": recording,
    }


def look() -> tuple[Any, dict[str, Any] | None]:
    """One look at the GPUs, and the same as a recording that tests can play."""
    recorder = Recorder()
    nvml = Nvml(recorder)
    absent = nvml.open()
    if absent is not None:
        from gpuctl_serving.kit.nvml import Sample

        return Sample(absent=absent), None
    sample = nvml.sample()
    nvml.close()
    return sample, {"about": "recorded by scripts/gpu-check", "looks": [recorder.answers], "events": []}


def used_mib() -> float | None:
    """Memory in use on the first GPU, by all its processes; None without one."""
    sample, _ = look()
    return sample.gpus[0].values.get("DCGM_FI_DEV_FB_USED") if sample.gpus else None


class Recorder:
    """pynvml that remembers what it answered, without what identifies the card."""

    NVMLError = pynvml.NVMLError

    def __init__(self) -> None:
        self.answers: dict[str, Any] = {}

    def __getattr__(self, name: str) -> Any:
        found = getattr(pynvml, name)
        if not (name.startswith("nvml") and callable(found)):
            return found

        def call(*arguments: Any) -> Any:
            try:
                answer = found(*arguments)
            except pynvml.NVMLError as failure:
                self.answers[name] = {"error": _error_name(failure)}
                raise
            self.answers[name] = "GPU-recorded" if name == "nvmlDeviceGetUUID" else _plain(answer)
            return answer

        return call


def _plain(answer: Any) -> Any:
    if isinstance(answer, int | float | str | None):
        return answer
    if isinstance(answer, bytes):
        return answer.decode()
    fields = getattr(answer, "_fields_", None)
    # A handle means nothing outside its session.
    return {field[0]: getattr(answer, field[0]) for field in fields} if fields else 0


def _error_name(failure: Any) -> str:
    for name in dir(pynvml):
        if name.startswith("NVML_ERROR_") and getattr(pynvml, name) == failure.value:
            return name.removeprefix("NVML_ERROR_")
    return "UNKNOWN"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown"
    )


def _commit(root: Path) -> str | None:
    git = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        said = subprocess.run(
            git, capture_output=True, text=True, check=True, env={**os.environ, "LC_ALL": "C"}
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return said.stdout.strip()
