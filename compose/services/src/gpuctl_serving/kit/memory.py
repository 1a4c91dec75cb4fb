"""Resident memory of this process, from the kernel."""

import resource
import sys
from pathlib import Path

_STATUS = Path("/proc/self/status")


def rss_mib() -> int:
    """Resident set now, MiB; the peak where the kernel does not tell (macOS)."""
    return _from_status("VmRSS:") or _peak_from_rusage()


def peak_rss_mib() -> int:
    """Highest resident set so far, MiB."""
    return _from_status("VmHWM:") or _peak_from_rusage()


def _from_status(key: str) -> int:
    if not _STATUS.exists():
        return 0
    for line in _STATUS.read_text().splitlines():
        if line.startswith(key):
            return int(line.split()[1]) // 1024
    return 0


def _peak_from_rusage() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Kilobytes on Linux, bytes on macOS.
    return peak // (1024 * 1024 if sys.platform == "darwin" else 1024)
