"""Files that are there completely or not at all."""

import contextlib
import json
import os
from pathlib import Path
from typing import Any

from gpuctl_serving.keeper.desired import Damaged, Desired


def write_atomically(file: Path, value: Any) -> None:
    """Replaces a JSON file durably: a crash at any instant leaves the old content or the new. 0600."""
    temporary = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "w", encoding="utf-8", opener=_private) as writing:
            json.dump(value, writing, indent=1)
            writing.write("\n")
            writing.flush()
            os.fsync(writing.fileno())
        temporary.replace(file)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    directory = os.open(file.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_TRUNC | os.O_CLOEXEC, 0o600)


def read_desired(file: Path) -> Desired | None:
    """What an earlier keeper should have been running; None when there was none. Raises Damaged."""
    try:
        return Desired.from_json(json.loads(file.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (ValueError, RecursionError) as wrong:
        raise Damaged(f"{file} is not JSON: {wrong}") from wrong
