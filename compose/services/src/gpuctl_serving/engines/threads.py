"""How many threads this process may keep busy: the cgroup's quota, the CPU set, what was configured."""

import os
from pathlib import Path

CGROUP_ROOT = Path("/sys/fs/cgroup")
SELF_CGROUP = Path("/proc/self/cgroup")


def thread_count(configured: int = 0) -> int:
    """The configured number, or the whole CPUs the quota and the CPU set allow, at least one."""
    if configured > 0:
        return configured
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = cgroup_quota()
    if quota is not None:
        allowed = min(allowed, max(1, int(quota)))
    return max(1, allowed)


def cgroup_quota(root: Path = CGROUP_ROOT, membership: Path = SELF_CGROUP) -> float | None:
    """CPUs the tightest cgroup above this process allows; None when none limits it. Knows v2 and v1."""
    quotas = []
    for controllers, path in _memberships(membership):
        if controllers == "":
            quotas += [q for folder in _upwards(root, path) if (q := _quota_v2(folder)) is not None]
        elif "cpu" in controllers.split(","):
            bases = (root / controllers, root / "cpu")
            quotas += [
                q for b in bases for folder in _upwards(b, path) if (q := _quota_v1(folder)) is not None
            ]
    return min(quotas, default=None)


def _memberships(file: Path) -> list[tuple[str, str]]:
    text = _read(file)
    parts = [line.split(":", 2) for line in text.splitlines()]
    return [(part[1], part[2]) for part in parts if len(part) == 3]


def _upwards(base: Path, path: str) -> list[Path]:
    # Inside a container the path may be the host's, and only the namespace's root is mounted: ask both.
    folder = base / path.lstrip("/")
    return [base, *(p for p in (folder, *folder.parents) if p != base and p.is_relative_to(base))]


def _quota_v2(folder: Path) -> float | None:
    words = _read(folder / "cpu.max").split()
    if len(words) != 2 or not words[0].isdigit() or not words[1].isdigit() or int(words[1]) == 0:
        return None
    return int(words[0]) / int(words[1])


def _quota_v1(folder: Path) -> float | None:
    quota, period = _read(folder / "cpu.cfs_quota_us").strip(), _read(folder / "cpu.cfs_period_us").strip()
    if not quota.isdigit() or not period.isdigit() or int(period) == 0:
        return None
    return int(quota) / int(period)


def _read(file: Path) -> str:
    try:
        return file.read_text()
    except OSError:
        return ""
