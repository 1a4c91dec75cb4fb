"""The traffic gate of an instance: one word in a mounted file, so that it survives every restart."""

import os
import re
import time
from dataclasses import dataclass
from pathlib import Path

from gpuctl_serving.container.place import WORDS, Traffic

_MOST_BYTES = 64
_SAID = re.compile(r"([a-z]+)(?: until ([0-9]{1,12}))?")


@dataclass(frozen=True)
class Gate:
    """What a gate says."""

    traffic: Traffic
    #: The host's uptime, in seconds, from which on it means open; None while it stands there.
    until: int | None = None


def read_gate(file: Path) -> Gate | None:
    """What the file says, such as `open` or `paused until 4711`; None when there is no file.

    Raises OSError when it cannot be read, ValueError when it says anything else.
    """
    try:
        with file.open("rb") as opened:
            said = opened.read(_MOST_BYTES).decode("utf-8", "replace").strip()
    except FileNotFoundError:
        return None
    match = _SAID.fullmatch(said)
    if match is None or match[1] not in WORDS:
        raise ValueError(f"{file} says {said!r}: it must say open or paused")
    return Gate(WORDS[match[1]], None if match[2] is None else int(match[2]))


def uptime() -> float:
    """Seconds since the host was booted; a container has no uptime of its own."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def write_gate(file: Path, traffic: Traffic) -> None:
    """Says it by one rename, on disk before it counts. Raises OSError."""
    file.parent.mkdir(parents=True, exist_ok=True)
    beside = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        with beside.open("w", encoding="utf-8") as opened:
            opened.write(f"{traffic}\n")
            opened.flush()
            os.fsync(opened.fileno())
        beside.replace(file)
    finally:
        beside.unlink(missing_ok=True)
    directory = os.open(file.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
