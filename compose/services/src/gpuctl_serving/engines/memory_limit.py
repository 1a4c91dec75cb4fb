"""How much memory this process may still take: what the host has left, and what its cgroups allow."""

from collections.abc import Iterator
from pathlib import Path

from gpuctl_serving.engines.threads import CGROUP_ROOT, SELF_CGROUP

MEMINFO = Path("/proc/meminfo")
#: cgroup v1 writes "no limit" as a number near 2^63.
_NO_LIMIT = 1 << 60


def available_bytes(
    meminfo: Path = MEMINFO, root: Path = CGROUP_ROOT, membership: Path = SELF_CGROUP
) -> int | None:
    """Bytes; None where the system does not say."""
    known = [left for folder in _folders(root, membership) if (left := _left_in(folder)) is not None]
    if (host := _host_available(meminfo)) is not None:
        known.append(host)
    return max(0, min(known)) if known else None


def _host_available(meminfo: Path) -> int | None:
    for line in _read(meminfo).splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return None


def _folders(root: Path, membership: Path) -> Iterator[Path]:
    """Every cgroup above this process, as the host names it and as a container sees it."""
    for line in _read(membership).splitlines():
        _, controllers, path = line.split(":", 2)
        base = root if controllers == "" else root / "memory"
        if controllers not in {"", "memory"}:
            continue
        folder = base / path.lstrip("/")
        yield base
        yield from (
            parent for parent in (folder, *folder.parents) if parent != base and base in parent.parents
        )


def _left_in(folder: Path) -> int | None:
    for limit_file, used_file in (
        ("memory.max", "memory.current"),
        ("memory.limit_in_bytes", "memory.usage_in_bytes"),
    ):
        limit, used = _number(folder / limit_file), _number(folder / used_file)
        if limit is not None and used is not None and limit < _NO_LIMIT:
            # Cached files count as used and are given up first.
            return limit - used + _cached(folder)
    return None


def _cached(folder: Path) -> int:
    for line in _read(folder / "memory.stat").splitlines():
        name, _, value = line.partition(" ")
        if name in {"inactive_file", "total_inactive_file"} and value.isdigit():
            return int(value)
    return 0


def _number(file: Path) -> int | None:
    text = _read(file).strip()
    return int(text) if text.isdigit() else None


def _read(file: Path) -> str:
    try:
        return file.read_text()
    except OSError:
        return ""
