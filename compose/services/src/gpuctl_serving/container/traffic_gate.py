"""The traffic gate of an instance: one word in a mounted file, so that it survives every restart."""

import os
from pathlib import Path

from gpuctl_serving.container.place import WORDS, Traffic

_MOST_BYTES = 64


def read_gate(file: Path) -> Traffic | None:
    """What the file says; None when there is no file.

    Raises OSError when it cannot be read, ValueError when it says anything else.
    """
    try:
        with file.open("rb") as opened:
            word = opened.read(_MOST_BYTES).decode("utf-8", "replace").strip()
    except FileNotFoundError:
        return None
    if word not in WORDS:
        raise ValueError(f"{file} says {word!r}: it must say open or paused")
    return WORDS[word]


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
