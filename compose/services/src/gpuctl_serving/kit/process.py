"""Processes, clocks and directories of this machine. The standard library alone: the keeper imports it."""

import hashlib
import os
import stat
import time
from pathlib import Path
from typing import NamedTuple

#: The longest path of a unix socket is 107 bytes; this leaves room to spare.
SOCKET_PATH_LIMIT = 100
#: Bytes kept free for a socket's file name below the run directory.
SOCKET_NAME_LENGTH = 32


class ProcessIdentity(NamedTuple):
    """What tells a process from a later one that got the same pid (on one boot of the machine)."""

    pid: int
    start_time: int


def boot_id() -> str:
    """Changes with every boot of the machine, and with nothing else."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def boot_ms() -> int:
    """Milliseconds since boot: counts suspend, ignores changes of the date, alike in every process."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000


class Usage(NamedTuple):
    """What a process used so far."""

    #: Processor seconds of all its threads, in the kernel's ticks of 10 ms.
    seconds: float
    #: Whether its first thread waits in a way that only the kernel can end: mostly for a disk.
    waits_for_disk: bool


def usage(pid: int) -> Usage | None:
    """From `/proc`; None where there is none, or no such process."""
    fields = _fields(pid)
    if fields is None:
        return None
    ticks = int(fields[11]) + int(fields[12])
    return Usage(ticks / os.sysconf("SC_CLK_TCK"), fields[0] == b"D")


def start_time(pid: int) -> int | None:
    """Field 22 of `/proc/<pid>/stat`; None when there is no such process, or only its zombie."""
    fields = _fields(pid)
    return None if fields is None or fields[0] in (b"Z", b"X") else int(fields[19])


def _fields(pid: int) -> list[bytes] | None:
    """Of `/proc/<pid>/stat`, from the third on."""
    try:
        line = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return None
    # The command's name is in parentheses and may itself hold spaces and parentheses.
    return line[line.rindex(b")") + 2 :].split()


def is_running(identity: ProcessIdentity) -> bool:
    """Whether exactly this process runs: same pid, same start time, not a zombie."""
    return start_time(identity.pid) == identity.start_time


def own_identity() -> ProcessIdentity:
    """This process."""
    pid = os.getpid()
    return ProcessIdentity(pid, start_time(pid) or 0)


def run_directory(state: str, uid: int) -> str:
    """Where an environment's unix sockets are, from its state directory (absolute, as given) and the user.

    `test/golden/run-directory.json` pins this function and its twin in the CLI.
    """
    inside = f"{state}/run"
    if len(os.fsencode(f"{inside}/")) + SOCKET_NAME_LENGTH <= SOCKET_PATH_LIMIT:
        return inside
    return f"/tmp/gpuctl-{uid}/{hashlib.sha256(os.fsencode(state)).hexdigest()[:16]}"  # noqa: S108 - 0700, owner checked


def make_private_directory(directory: Path) -> None:
    """Makes a directory that only this user can enter. Refuses one that is a link or somebody else's."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = directory.lstat()
    if not stat.S_ISDIR(found.st_mode):
        raise PermissionError(f"{directory} is not a directory: remove it, then try again")
    if found.st_uid != os.getuid():
        raise PermissionError(
            f"{directory} belongs to uid {found.st_uid}, not to you ({os.getuid()}): its owner could take "
            "over the sockets in it. Remove it, then try again"
        )
    if stat.S_IMODE(found.st_mode) != 0o700:
        directory.chmod(0o700)
