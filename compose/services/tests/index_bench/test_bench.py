"""The benchmark of index types: recall counts what is as near, and a winner is named only if it is clear."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from gpuctl_serving.index.bench.crossover import crossovers
from gpuctl_serving.index.bench.data import clustered, held_out
from gpuctl_serving.index.bench.measure import Row, exact, recall

SOURCES = Path(__file__).parents[2] / "src"


def row(vectors: int, kind: str, device: str, qps: float, recall: float = 1.0) -> Row:
    return Row(vectors, kind, device, 1, recall, qps, 1.0, None, 10, 0.1, 1536.0)


def test_a_duplicate_of_a_true_neighbour_is_no_miss() -> None:
    rows = clustered(50, 8, 1)
    rows[7] = rows[3]
    queries = held_out(rows, 4, 1)
    order = np.argsort(-(queries @ rows.T), axis=1, kind="stable")[:, :5].astype(np.int64)
    kth = exact(rows, queries, 5, 1)
    assert recall(rows, queries, kth, order) == 1.0
    swapped = np.where(order == 3, 7, order)
    assert recall(rows, queries, kth, swapped) == 1.0
    wrong = order.copy()
    wrong[:, 0] = np.argmin(queries @ rows.T, axis=1)
    assert recall(rows, queries, kth, wrong) == 0.8
    assert recall(rows, queries, kth, np.full_like(order, -1)) == 0.0


def test_the_truth_is_the_same_in_one_piece_and_in_many() -> None:
    rows = clustered(70_000, 4, 2)
    queries = held_out(rows, 8, 2)
    best = -np.sort(-(queries @ rows.T), axis=1)[:, 9]
    assert np.allclose(exact(rows, queries, 10, 1), best, atol=1e-5)


def test_a_gpu_wins_from_the_size_where_it_is_clearly_faster_and_stays_so() -> None:
    rows = [
        row(1000, "Flat", "cpu", 1000), row(1000, "Flat", "cuda", 200),
        row(10_000, "Flat", "cpu", 200), row(10_000, "Flat", "cuda", 210),
        row(100_000, "Flat", "cpu", 20), row(100_000, "Flat", "cuda", 150),
    ]  # fmt: skip
    found = crossovers(rows)[0]
    assert found["gpuBeatsCpuFrom"] == 100_000
    assert [one["device"] for one in found["fastest"]] == ["cpu", "cpu", "cuda"]


def test_an_index_that_finds_too_little_wins_nothing() -> None:
    rows = [row(1000, "Flat", "cpu", 100), row(1000, "IVFPQ", "cpu", 9000, recall=0.6)]
    assert crossovers(rows)[0]["approximateBeatsFlatFrom"] is None
    assert crossovers(rows)[0]["gpuMeasured"] is False


def run(*arguments: str) -> tuple[int, dict[str, Any]]:
    done = subprocess.run(
        [sys.executable, "-m", "gpuctl_serving.index.bench", *arguments],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(SOURCES)},
        capture_output=True,
        check=False,
        timeout=120,
    )
    last: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return done.returncode, last


def test_every_rate_has_its_recall_and_flat_finds_everything() -> None:
    status, result = run("--sizes", "300,12000", "--batches", "1,8", "--dimension", "16", "--seconds", "0.02")
    assert status == 0
    assert {(r["vectors"], r["type"], r["batch"]) for r in result["rows"]} == {
        (300, "Flat", 1), (300, "Flat", 8), (12_000, "Flat", 1), (12_000, "Flat", 8),
        (12_000, "IVFFlat", 1), (12_000, "IVFFlat", 8),
    }  # fmt: skip
    assert all(r["recall"] == 1.0 for r in result["rows"] if r["type"] == "Flat")
    assert all(0.8 < r["recall"] <= 1.0 and r["qps"] > 0 for r in result["rows"])
    assert "CPU build" in result["gpu"]


def test_a_gpu_that_is_not_there_is_an_error_with_a_next_step() -> None:
    status, result = run("--sizes", "10", "--gpu", "0")
    assert (status, result["event"]) == (1, "error")
    assert "--gpu-id" in result["next"]


def test_a_size_that_does_not_fit_the_memory_is_left_out_with_both_numbers() -> None:
    status, result = run("--sizes", "900000000000", "--batches", "1", "--dimension", "16")
    assert status == 0
    assert result["rows"] == []
    assert "MiB are free" in result["leftOut"][0]["because"]
