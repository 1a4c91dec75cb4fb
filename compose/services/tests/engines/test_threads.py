"""Threads come from what the process may really use."""

from pathlib import Path

import pytest

from gpuctl_serving.engines.threads import cgroup_quota, thread_count


def tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


@pytest.mark.parametrize(
    ("files", "membership", "quota"),
    [
        ({"cpu.max": "150000 100000\n"}, "0::/\n", 1.5),
        ({"cpu.max": "max 100000\n"}, "0::/\n", None),
        ({"a/cpu.max": "400000 100000", "a/b/cpu.max": "max 100000"}, "0::/a/b\n", 4.0),
        ({"a/cpu.max": "100000 100000", "a/b/cpu.max": "300000 100000"}, "0::/a/b\n", 1.0),
        ({"cpu,cpuacct/x/cpu.cfs_quota_us": "200000", "cpu,cpuacct/x/cpu.cfs_period_us": "100000"},
         "4:cpu,cpuacct:/x\n", 2.0),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, "4:cpu:/x\n", None),
        ({"cpu.max": "nonsense"}, "0::/\n", None),
        ({"cpu.max": "100 0"}, "0::/\n", None),
        ({}, "", None),
    ],
)  # fmt: skip
def test_the_tightest_quota_above_the_process_counts(
    tmp_path: Path, files: dict[str, str], membership: str, quota: float | None
) -> None:
    root = tree(tmp_path / "fs", files or {"empty": ""})
    member = tmp_path / "cgroup"
    member.write_text(membership)
    assert cgroup_quota(root, member) == quota


def test_the_hosts_path_inside_a_container_falls_back_to_the_mounted_root(tmp_path: Path) -> None:
    root = tree(tmp_path / "fs", {"cpu.max": "200000 100000"})
    (tmp_path / "cgroup").write_text("0::/system.slice/docker-1234.scope\n")
    assert cgroup_quota(root, tmp_path / "cgroup") == 2.0


def test_a_configured_number_wins_and_there_is_always_one() -> None:
    assert thread_count(7) == 7
    assert thread_count() >= 1
