"""Two minutes of load while both engines meet every fault at random."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.faults.soak import soak

Figures = Callable[[str, Any], None]


@pytest.mark.parametrize("cpu_too", [False, True])
def test_two_minutes_of_every_fault_at_random(
    tiny: dict[str, Path], tmp_path: Path, figures: Figures, cpu_too: bool
) -> None:
    soaked = soak(tiny["tiny-xlmr-embedder"], tmp_path, seconds=120.0, seed=2026, cpu_too=cpu_too)
    soaked.check()
    figures(
        f"fault-soak-{'both' if cpu_too else 'gpu'}",
        {
            "seconds": 120,
            "answers": {str(status): count for status, count in soaked.tally.statuses.items()},
            "devices": {device: count for device, count in soaked.tally.devices.items() if device},
            "slowestSeconds": round(soaked.tally.slowest, 2),
            "restarts": soaked.value("gpuctl_worker_restarts_total"),
            "retriedTexts": soaked.value("gpuctl_retried_rows_total"),
            "frontMiB": [round(soaked.before.rss_mib, 1), round(soaked.after.rss_mib, 1)],
            "descriptors": [soaked.before.descriptors, soaked.after.descriptors],
        },
    )
    if not cpu_too:
        assert set(soaked.tally.statuses) == {200}
    for reason in ("worker-died", "worker-hung", "non-finite", "out-of-memory", "device-error"):
        lines = [line for line in soaked.metrics.splitlines() if f'reason="{reason}"' in line]
        assert any(not line.endswith(" 0.0") for line in lines), f"no fallback for {reason}"
