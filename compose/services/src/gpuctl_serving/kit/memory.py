"""Resident memory of this process and of the workers it started, from the kernel."""

import os
import resource
import sys
from pathlib import Path

_PROC = Path("/proc")


def rss_mib() -> int:
    """Resident set now, MiB, workers included; the own peak where the kernel does not tell (macOS)."""
    return _of_all("VmRSS:") or _peak_from_rusage()


def peak_rss_mib() -> int:
    """Highest resident sets so far, MiB, of this process and its living workers: a bound."""
    return _of_all("VmHWM:") or _peak_from_rusage()


def _of_all(key: str) -> int:
    # Pages that two share (the interpreter's own) count twice: a bound, not an estimate.
    return sum(_from_status(pid, key) for pid in (os.getpid(), *_children())) // 1024


def _children() -> list[int]:
    found = []
    for file in (_PROC / "self/task").glob("*/children"):
        try:
            found += [int(pid) for pid in file.read_text().split()]
        except OSError:  # A thread that ended meanwhile.
            continue
    return found


def _from_status(pid: int, key: str) -> int:
    try:
        lines = (_PROC / str(pid) / "status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith(key)), 0)


def _peak_from_rusage() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Kilobytes on Linux, bytes on macOS.
    return peak // (1024 * 1024 if sys.platform == "darwin" else 1024)
