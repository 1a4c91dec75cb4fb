"""What a service costs the machine: memory after its worst batches, and cores while nobody asks anything."""

import os
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from tests.worker.services import ServiceProcess, running

#: Of the front and its worker together, with all-MiniLM-L6-v2 on two threads.
MOST_MIB = 350


def memory(pids: Iterable[int], key: str) -> float:
    """Sum of one line of /proc/<pid>/status, MiB."""
    total = 0
    for pid in pids:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        total += next(int(line.split()[1]) for line in lines if line.startswith(key))
    return total / 1024


def cpu_seconds(pids: Iterable[int]) -> float:
    """User and system time of processes so far."""
    total = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total / os.sysconf("SC_CLK_TCK")


def mixed_shapes(service: ServiceProcess, requests: int) -> None:
    """Texts of 3 to 256 tokens, one to forty in a request, then many of the longest."""
    dice = np.random.default_rng(3)
    for _ in range(requests):
        words = ["word " * int(dice.integers(1, 256)) + str(n) for n in range(int(dice.integers(1, 40)))]
        assert service.ask("POST", "/embed", {"inputs": words}).status == 200
    assert (
        service.ask("POST", "/embed", {"inputs": ["word " * 300 + str(n) for n in range(40)]}).status == 200
    )


def test_the_embedder_with_its_worker_stays_below_its_memory_after_mixed_shapes(
    minilm: Path, tmp_path: Path
) -> None:
    with running(
        "embedder",
        minilm,
        tmp_path / "log",
        GPUCTL_DEVICE="cpu",
        GPUCTL_THREADS="2",
        GPUCTL_CACHE_ENTRIES="0",
        GPUCTL_DEADLINE_MS="120000",
    ) as service:
        service.until("/health/ready")
        mixed_shapes(service, 3)
        pids = [service.pid, *service.workers()]
        assert len(pids) == 2
        assert memory(pids, "VmRSS:") < MOST_MIB
        # Its highest moment, loading included.
        assert memory(pids, "VmHWM:") < MOST_MIB


def test_an_idle_service_leaves_the_cores_alone(tiny: dict[str, Path], tmp_path: Path) -> None:
    with running(
        "embedder", tiny["tiny-xlmr-embedder"], tmp_path / "log", GPUCTL_DEVICE="cpu", GPUCTL_THREADS="2"
    ) as service:
        service.until("/health/ready")
        assert service.ask("POST", "/embed", {"inputs": ["a"] * 50}).status == 200
        pids = [service.pid, *service.workers()]
        time.sleep(1)  # what the last request left to do
        before = cpu_seconds(pids)
        time.sleep(3)
        # A thread that spins would take three seconds.
        assert cpu_seconds(pids) - before < 0.15
