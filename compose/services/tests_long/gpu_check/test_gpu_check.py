"""`scripts/gpu-check` walks its whole ladder on PyTorch's CPU with tiny models, and says it was no GPU."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[4] / "scripts" / "gpu-check"


def gpu_check(*arguments: str) -> "subprocess.CompletedProcess[str]":
    env = {**os.environ, "GPUCTL_PYTHON": sys.executable}
    return subprocess.run(
        [str(SCRIPT), *arguments], capture_output=True, text=True, env=env, timeout=900, check=False
    )


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory, minilm: Path) -> tuple[Path, dict[str, Any]]:
    out = tmp_path_factory.mktemp("gpu-check") / "result.json"
    ran = gpu_check("--device", "cpu", "--quick", "--minilm", str(minilm), "--out", str(out))
    assert ran.returncode == 0, ran.stderr
    assert "This was NOT a GPU" in ran.stderr
    return out, json.loads(out.read_text())


def test_every_section_ran_and_every_verdict_is_good(result: tuple[Path, dict[str, Any]]) -> None:
    _, document = result
    assert set(document["sections"]) == {"parity", "throughput", "share", "ladder", "kill", "memory"}
    verdicts = {verdict["of"]: verdict["ok"] for verdict in document["verdicts"]}
    assert {"parity/minilm", "parity/tiny-xlmr-cross-encoder", "ladder", "kill"} <= set(verdicts)
    assert all(verdicts.values())
    assert document["missing"] == []


def test_a_section_that_breaks_costs_neither_the_others_nor_what_is_measured(
    tmp_path: Path, minilm: Path
) -> None:
    out = tmp_path / "result.json"
    broken = tmp_path / "sitecustomize.py"
    broken.write_text(
        "import sys\n"
        "if sys.argv[-1] == 'plain_rate' or 'plain_rate' in sys.orig_argv:\n"
        "    print('[]')\n"
        "    raise SystemExit(0)\n"
    )
    env = {**os.environ, "GPUCTL_PYTHON": sys.executable, "PYTHONPATH": str(tmp_path)}
    arguments = ["--device", "cpu", "--quick", "--minilm", str(minilm), "--out", str(out)]
    ran = subprocess.run(
        [str(SCRIPT), *arguments, "--only", "share", "--only", "kill"],
        capture_output=True,
        text=True,
        env=env,
        timeout=900,
        check=False,
    )
    document = json.loads(out.read_text())
    assert ran.returncode == 1, ran.stderr
    assert "failed_because" in document["sections"]["share"]
    assert document["sections"]["kill"]["verdict"]


def test_it_says_plainly_that_it_was_no_gpu_and_what_ran_where(result: tuple[Path, dict[str, Any]]) -> None:
    _, document = result
    assert document["gpu"] is False
    assert document["statement"].startswith("This was NOT a GPU")
    assert document["sections"]["memory"] == {"not_run": "the engine under test does not use a GPU"}
    assert document["machine"]["packages"]["torch"]
    assert document["machine"]["processor"]


def test_figures_carry_their_number_and_spread(result: tuple[Path, dict[str, Any]]) -> None:
    _, document = result
    cases = document["sections"]["throughput"]["minilm"]["cases"]
    assert [case["texts"] for case in cases] == [1, 8, 32, 128]
    assert all(case["n"] >= 5 and case["p10_ms"] <= case["median_ms"] <= case["p90_ms"] for case in cases)
    reranked = document["sections"]["throughput"]["quick-reranker"]["cases"]
    assert [case["texts"] for case in reranked] == [20, 50, 100]


def test_memory_really_ran_out_and_the_engine_answered_as_before(result: tuple[Path, dict[str, Any]]) -> None:
    ladder = result[1]["sections"]["ladder"]
    assert ladder["out_of_memory_at"] > 4096
    assert "can't allocate memory" in ladder["said"]
    assert ladder["difference_after"] < 1e-5


def test_a_killed_engine_lost_no_request(result: tuple[Path, dict[str, Any]]) -> None:
    kill = result[1]["sections"]["kill"]
    assert (kill["failed"], kill["wrong"]) == (0, 0)
    assert kill["phases"][-1]["status"] == "healthy"
    assert kill["came_back"]


def test_an_edited_figure_breaks_the_hash(result: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    out, document = result
    assert gpu_check("--verify", str(out)).returncode == 0
    document["gpu"] = True
    edited = tmp_path / "edited.json"
    edited.write_text(json.dumps(document))
    ran = gpu_check("--verify", str(edited))
    assert ran.returncode == 1
    assert "NOT as it was written" in ran.stderr


def test_without_a_card_it_refuses_to_call_anything_a_gpu() -> None:
    ran = gpu_check("--device", "cuda", "--quick", "--only", "parity")
    if ran.returncode == 1:
        assert "No NVIDIA GPU: " in ran.stderr
        assert "--device cpu --quick" in ran.stderr
    else:
        assert ran.returncode == 0, ran.stderr
