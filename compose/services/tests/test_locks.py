"""What the locks install: one FAISS on every platform, and for GPUs where there is one."""

from pathlib import Path

import pytest
from packaging.requirements import Requirement

LOCKS = Path(__file__).parents[1] / "locks"


def installed(lock: str, platform: str, machine: str) -> dict[str, str]:
    """Name -> version of what a lock installs there."""
    place = {"sys_platform": platform, "platform_machine": machine, "python_full_version": "3.13.1"}
    lines = [line.removesuffix("\\").strip() for line in (LOCKS / lock).read_text().splitlines()]
    wanted = [Requirement(line) for line in lines if line and not line.startswith(("--hash", "#"))]
    there = [one for one in wanted if one.marker is None or one.marker.evaluate({**place, "extra": ""})]
    return {one.name: str(one.specifier).removeprefix("==") for one in there}


@pytest.mark.parametrize(
    ("lock", "platform", "machine", "build"),
    [
        ("runtime.txt", "linux", "x86_64", "faiss-cpu"),
        ("runtime.txt", "darwin", "arm64", "faiss-cpu"),
        ("cuda.txt", "linux", "x86_64", "faiss-gpu"),
        ("cuda.txt", "linux", "aarch64", "faiss-cpu"),
    ],
)
def test_a_lock_installs_one_faiss_and_that_for_gpus_only_where_it_exists(
    lock: str, platform: str, machine: str, build: str
) -> None:
    found = installed(lock, platform, machine)
    # Both are the module `faiss`: installed together, one would overwrite half of the other.
    assert [name for name in found if name.startswith("faiss")] == [build]
    assert found[build] == installed("runtime.txt", "linux", "x86_64")["faiss-cpu"]


def test_the_libraries_that_faiss_needs_of_cuda_12_stand_beside_those_of_pytorch() -> None:
    found = installed("cuda.txt", "linux", "x86_64")
    needed = {"nvidia-cublas-cu12", "nvidia-cuda-runtime-cu12", "nvidia-curand-cu12"}
    assert needed | {"nvidia-cublas", "nvidia-cuda-runtime", "torch"} <= set(found)
    assert not [name for name in installed("runtime.txt", "linux", "x86_64") if name.endswith("-cu12")]
