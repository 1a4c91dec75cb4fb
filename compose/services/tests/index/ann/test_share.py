"""Small calls take one thread; threads that wait sleep."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from gpuctl_serving.index.ann.share import threads_for

SOURCES = Path(__file__).parents[3] / "src"


@pytest.mark.parametrize(
    ("products", "most", "threads"),
    [
        (0, 8, 1),
        # 32 queries over 1,000 vectors of 384 dimensions.
        (32 * 1_000 * 384, 8, 1),
        # The same over 10,000: worth some.
        (32 * 10_000 * 384, 8, 7),
        (32 * 10_000 * 384, 2, 2),
        (1e15, 1, 1),
        (1e15, 16, 16),
    ],
)
def test_threads_follow_the_work(products: float, most: int, threads: int) -> None:
    assert threads_for(products, most) == threads


@pytest.mark.parametrize(
    "module", ["gpuctl_serving.index.bench.measure", "gpuctl_serving.migration.material"]
)
def test_every_program_that_searches_has_threads_that_sleep(module: str) -> None:
    """libgomp prints its settings when it is loaded."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OMP_")}
    ran = subprocess.run(
        [sys.executable, "-c", f"import {module}"],
        env={**environment, "OMP_DISPLAY_ENV": "TRUE", "PYTHONPATH": str(SOURCES)},
        capture_output=True,
        check=True,
        text=True,
    )
    assert "OMP_WAIT_POLICY = 'PASSIVE'" in ran.stderr
