"""Files that survive a power cut: written, synced, renamed, and their directory synced after them."""

import contextlib
import hashlib
import os
import time
from datetime import UTC, datetime
from pathlib import Path

_CHUNK = 1 << 20


def sync_directory(directory: Path) -> None:
    """Makes names that were created, renamed or removed in it survive."""
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_file(path: Path) -> None:
    """Makes what was written to a closed file survive."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_all(handle: int, data: bytes | memoryview) -> None:
    """Writes every byte; the kernel may take fewer at once."""
    rest = memoryview(data)
    while len(rest):
        rest = rest[os.write(handle, rest) :]


def write_synced(path: Path, data: bytes) -> None:
    """A file with this content, durable but for its name (see `sync_directory`)."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        write_all(handle, data)
        os.fsync(handle)
    finally:
        os.close(handle)


def unfinished(path: Path) -> Path:
    """What `replace_synced` writes before it renames; a kill may leave it."""
    return path.with_name(f".{path.name}.new")


def replace_synced(path: Path, data: bytes) -> None:
    """Replaces a small file as a whole: readers see the old one or the new one."""
    beside = unfinished(path)
    try:
        write_synced(beside, data)
        beside.rename(path)
    except BaseException:
        with contextlib.suppress(OSError):
            beside.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def sha256_of(path: Path) -> str:
    """Hash of a file's content, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def stamp() -> str:
    """Now, as a part of a file name that sorts by time."""
    return datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")


def move_aside(directory: Path, names: list[str], why: str) -> Path | None:
    """Moves files of the index directory into `damaged/<time>`, with a note; where."""
    present = [name for name in names if (directory / name).exists()]
    if not present:
        return None
    home = aside_home(directory)
    move_to(home, directory, present, why)
    return home


def aside_home(directory: Path) -> Path:
    """A name in `damaged/` that is free."""
    return directory / "damaged" / f"{stamp()}-{time.monotonic_ns() % 1000:03d}"


def move_to(home: Path, directory: Path, names: list[str], why: str) -> None:
    """Moves files that are there into a new directory, with a note."""
    home.mkdir(parents=True, mode=0o700)
    write_synced(home / "why.txt", (why + "\n").encode())
    for name in names:
        (directory / name).rename(home / Path(name).name)
    sync_directory(home)
    sync_directory(home.parent)
    sync_directory(directory)
