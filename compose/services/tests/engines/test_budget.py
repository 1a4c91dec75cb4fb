"""Batch budgets from measured memory."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuctl_serving.engines.budget import GIB, LEAST, MIB, after_loading, before_loading, texts_for
from gpuctl_serving.engines.memory_limit import available_bytes
from gpuctl_serving.engines.protocol import EngineFacts, EngineSpec

T4 = int(14.56 * GIB)


def cpu(threads: int) -> EngineSpec:
    return EngineSpec("onnxruntime-cpu", "cpu", "float32", threads)


def facts(total: int, free: int, token: int) -> EngineFacts:
    return EngineFacts("cuda", "torch", "float16", ("cuda:0",), 2, total, free, token)


@pytest.mark.parametrize(
    ("total", "texts"),
    [(3.8, 32), (7.6, 64), (8.0, 64), (11.7, 64), (14.56, 128), (15.7, 128), (22.5, 256), (79.1, 256)],
)
def test_the_table_goes_by_the_size_a_card_is_sold_as(total: float, texts: int) -> None:
    assert texts_for(int(total * GIB)) == texts


def test_a_small_model_on_a_t4_gets_the_table_s_batch() -> None:
    assert after_loading(8192, facts(T4, 14 * GIB, 20_000)) == 128 * 256


def test_a_card_filled_by_a_neighbour_gets_what_is_left() -> None:
    assert after_loading(8192, facts(T4, 512 * MIB, 30_000)) == int(512 * MIB * 0.6) // 30_000


def test_a_device_that_measured_nothing_keeps_what_was_planned() -> None:
    assert after_loading(4096, facts(0, 0, 0)) == 4096


@given(st.integers(1 * GIB, 200 * GIB), st.floats(0, 1), st.integers(1, 10**7))
def test_a_batch_fits_what_is_free_or_is_the_least(total: int, share: float, token: int) -> None:
    free = int(total * share)
    tokens = after_loading(8192, facts(total, free, token))
    assert tokens == LEAST or tokens * token <= free


def test_two_cores_with_memory_to_spare_get_8192_tokens() -> None:
    assert before_loading(cpu(2), 24 * GIB) == 8192
    assert before_loading(cpu(2), None) == 8192


def test_more_cores_get_more_up_to_where_it_stops_helping() -> None:
    assert [before_loading(cpu(n), 64 * GIB) for n in (1, 3, 4, 64)] == [4096, 12288, 16384, 16384]


def test_a_small_container_gets_small_batches() -> None:
    assert before_loading(cpu(8), 1 * GIB) == 2048
    assert before_loading(cpu(8), 1 * MIB) == LEAST


def world(tmp_path: Path, files: dict[str, str], cgroup: str) -> tuple[Path, Path, Path]:
    for name, text in files.items():
        file = tmp_path / "cgroup" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    (tmp_path / "meminfo").write_text("MemTotal: 9000 kB\nMemAvailable: 8000 kB\n")
    (tmp_path / "self").write_text(cgroup)
    return tmp_path / "meminfo", tmp_path / "cgroup", tmp_path / "self"


def test_without_a_limit_it_is_what_the_host_has_left(tmp_path: Path) -> None:
    assert (
        available_bytes(*world(tmp_path, {"memory.max": "max\n", "memory.current": "5"}, "0::/\n"))
        == 8000 * 1024
    )


def test_the_tightest_cgroup_above_decides_and_cached_files_do_not_count(tmp_path: Path) -> None:
    files = {
        "a/memory.max": "3000000\n",
        "a/memory.current": "1000000\n",
        "a/b/memory.max": "1000000\n",
        "a/b/memory.current": "600000\n",
        "a/b/memory.stat": "anon 1\ninactive_file 100000\n",
    }
    assert available_bytes(*world(tmp_path, files, "0::/a/b\n")) == 500_000


def test_cgroup_v1_limits_are_known_and_its_no_limit_is_none(tmp_path: Path) -> None:
    limit = {"memory/x/memory.limit_in_bytes": "700000", "memory/x/memory.usage_in_bytes": "200000"}
    assert available_bytes(*world(tmp_path, limit, "4:memory:/x\n3:cpu:/x\n")) == 500_000
    none = {"memory/x/memory.limit_in_bytes": "9223372036854771712", "memory/x/memory.usage_in_bytes": "2"}
    assert available_bytes(*world(tmp_path, none, "4:memory:/x\n")) == 8000 * 1024


def test_a_system_that_says_nothing_is_not_guessed(tmp_path: Path) -> None:
    assert available_bytes(tmp_path / "no", tmp_path / "no", tmp_path / "no") is None
