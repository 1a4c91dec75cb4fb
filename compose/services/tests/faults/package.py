"""A copy of the package with engines of the tests in place of its own."""

import re
import shutil
from collections.abc import Mapping
from pathlib import Path

FAULTS = Path(__file__).parent
SOURCES = FAULTS.parents[1] / "src"


def faulty_package(root: Path, *, gpu: bool = False, patience: Mapping[str, float] | None = None) -> Path:
    """Copies the package below `root`, its CPU engine with faults; with `gpu` also a stub of a GPU.

    `patience` changes durations of the engines' policy (engines/state.py), which take minutes by default.
    """
    shutil.copytree(
        SOURCES / "gpuctl_serving", root / "gpuctl_serving", ignore=shutil.ignore_patterns("__pycache__")
    )
    engines = root / "gpuctl_serving/engines"
    shutil.copy(FAULTS / "faulty.py", engines / "faulty.py")
    _replace(engines, "onnx_cpu", "onnx_cpu_faulty")
    if gpu:
        shutil.copy(FAULTS / "torch_cuda_stub.py", engines / "torch_cuda.py")
        _replace(engines, "presence", "presence_with_gpu")
    for name, seconds in (patience or {}).items():
        _hurry(engines / "state.py", name, seconds)
    return root


def _hurry(file: Path, name: str, seconds: float) -> None:
    changed, count = re.subn(rf"^(    {name}: float) = .*$", rf"\1 = {seconds}", file.read_text(), flags=re.M)
    if count != 1:
        raise ValueError(f"{file.name} has no duration {name}")
    file.write_text(changed)


def _replace(engines: Path, module: str, by: str) -> None:
    (engines / f"{module}.py").rename(engines / f"{module}_real.py")
    shutil.copy(FAULTS / f"{by}.py", engines / f"{module}.py")
