"""The keeper's own log, and the rotation of every log file."""

import contextlib
import json
import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROTATE_BYTES = 16 * 1024 * 1024
#: With the current one, five files.
KEPT = 4


def note(event: str, **fields: Any) -> None:
    """One JSON line. The keeper's stdout is its log; a full disk or a closed pipe must not end it."""
    line = {
        "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "level": "info",
        "service": "keeper",
        "event": event,
        **fields,
    }
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.write(json.dumps(line, default=str) + "\n")
        sys.stdout.flush()


def redirect_output(log: Path) -> None:
    """Sends this process's output to its log, whatever terminal or pipe it was started with."""
    target = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    nothing = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    sys.stdout.flush()
    os.dup2(nothing, 0)
    os.dup2(target, 1)
    os.dup2(target, 2)
    os.close(target)
    os.close(nothing)


def rotate(log: Path, limit: int = ROTATE_BYTES) -> bool:
    """Moves a log that grew over the limit to `.1`, `.1` to `.2` and so on. Returns whether it did.

    Copies and truncates: the writers append (O_APPEND), so they go on at the new end without being told,
    also when this keeper is gone. Only what is written between the last read and the truncation,
    microseconds, can be lost.
    At most `limit` bytes, the newest, are copied: a flood must not fill the disk twice.
    """
    try:
        if log.stat().st_size < limit:
            return False
        copy = log.with_name(f"{log.name}.rotating")
        with log.open("r+b") as reading:
            with open(copy, "wb", opener=_private) as writing:
                reading.seek(-limit, os.SEEK_END)
                while chunk := reading.read(1024 * 1024):
                    writing.write(chunk)
            reading.truncate(0)
        for number in range(KEPT, 1, -1):
            with contextlib.suppress(FileNotFoundError):
                numbered(log, number - 1).replace(numbered(log, number))
        copy.replace(numbered(log, 1))
    except FileNotFoundError:
        return False
    except OSError as failure:
        with contextlib.suppress(OSError):
            log.with_name(f"{log.name}.rotating").unlink()
        note("rotation-failed", log=log, reason=str(failure))
        return False
    return True


def numbered(log: Path, number: int) -> Path:
    """The n-th rotated file of a log."""
    return log.with_name(f"{log.name}.{number}")


def rotate_all(directory: Path, limit: int = ROTATE_BYTES) -> None:
    """Rotates every log of the directory that needs it."""
    for log in sorted(directory.glob("*.log")):
        rotate(log, limit)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, 0o600)
