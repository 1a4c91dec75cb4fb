"""Memory of the embedder under mixed shapes: an hour's worth of them, in five minutes."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from tests.worker.services import running
from tests.worker.test_footprint import MOST_MIB, memory

Figures = Callable[[str, Any], None]
_SECONDS = 300
_SETTLED = 60


def test_five_minutes_of_mixed_shapes_leave_memory_flat(
    minilm: Path, tmp_path: Path, figures: Figures
) -> None:
    dice = np.random.default_rng(11)
    series: list[tuple[float, float, float]] = []
    shapes: set[tuple[int, int]] = set()
    with running(
        "embedder",
        minilm,
        tmp_path / "log",
        GPUCTL_DEVICE="cpu",
        GPUCTL_THREADS="2",
        GPUCTL_DEADLINE_MS="120000",
        # Full from the first seconds on: a cache that still fills would look like a leak.
        GPUCTL_CACHE_ENTRIES="500",
    ) as service:
        service.until("/health/ready")
        (worker,) = service.workers()
        started = time.monotonic()
        while (at := time.monotonic() - started) < _SECONDS:
            texts, words = int(dice.integers(1, 33)), int(dice.integers(1, 256))
            shapes.add((texts, words))
            inputs = [
                f"{dice.integers(1 << 40)} " + "word " * int(dice.integers(1, words + 1))
                for _ in range(texts)
            ]
            assert service.ask("POST", "/embed", {"inputs": inputs}, timeout=120).status == 200
            series.append((at, memory([service.pid], "VmRSS:"), memory([worker], "VmRSS:")))
        assert service.workers() == [worker]
        peak = memory([service.pid, worker], "VmHWM:")
    settled = [front + engine for at, front, engine in series if at > _SETTLED]
    half = len(settled) // 2
    figures(
        "embedder-memory",
        {
            "seconds": _SECONDS,
            "requests": len(series),
            "shapes": len(shapes),
            "peakMiB": round(peak, 1),
            "frontMiB": round(series[-1][1], 1),
            "workerMiB": round(series[-1][2], 1),
            "medianFirstHalfMiB": round(float(np.median(settled[:half])), 1),
            "medianSecondHalfMiB": round(float(np.median(settled[half:])), 1),
        },
    )
    assert peak < MOST_MIB
    assert np.median(settled[half:]) - np.median(settled[:half]) < 8
