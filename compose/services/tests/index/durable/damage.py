"""What may happen to an index's files, and a small index it happens to."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gpuctl_serving.index.core import Core
from gpuctl_serving.index.schema import DATABASE
from tests.index import direct


def fill(directory: Path, count: int = 40, start: int = 0) -> None:
    """An index with that many items, some replaced and some deleted, closed in order."""
    core = direct.open_core(directory)
    try:
        write(core, count, start)
    finally:
        direct.close(core)


def write(core: Core, count: int, start: int = 0) -> None:
    """Adds, replaces every seventh, deletes every fifth."""
    for number in range(start, start + count):
        direct.add(core, [direct.item(f"n{number}", [1.0, number, 1], {"kind": number % 3})])
        if number % 7 == 0:
            direct.add(core, [direct.item(f"n{number}", [2.0, number, 5], {"kind": 9})])
        if number % 5 == 0:
            direct.delete(core, [f"n{number}"])


def content(core: Core) -> dict[str, Any]:
    """Everything an index answers: each item, what each query finds, what each filter finds."""
    with core.readers.snapshot() as snapshot:
        ns = snapshot.namespace("default")
        items = [] if ns is None else snapshot.matching(ns, {"kind": [0, 1, 2, 9]})
        documents = {one.id: one for one in snapshot.documents(items).values()}
        total = sum(snapshot.counts().values())
    found = [direct.search(core, [1.0, at, 2], 10) for at in range(0, 40, 9)]
    kinds = [direct.search(core, [1.0, 3, 2], 10, {"kind": kind}) for kind in (0, 1, 2, 9)]
    vectors = 0 if core.live.catalog is None else len(core.live.catalog)
    return {"documents": documents, "total": total, "found": found, "kinds": kinds, "vectors": vectors}


def content_of(directory: Path) -> dict[str, Any]:
    """The content after a start."""
    core = direct.open_core(directory)
    try:
        return content(core)
    finally:
        direct.close(core)


def copied(directory: Path, to: Path) -> Path:
    """A copy of an index directory to be damaged."""
    shutil.copytree(directory, to)
    return to


def database_files(directory: Path) -> list[Path]:
    """The database and what SQLite keeps beside it."""
    return sorted(directory.glob(f"{DATABASE}*"))


def segments(directory: Path) -> list[Path]:
    """The log's files."""
    return sorted((directory / "log").glob("*.log"))


def flip(path: Path, places: Sequence[int]) -> None:
    """Turns one bit over at each place (counted in bits)."""
    data = bytearray(path.read_bytes())
    for place in places:
        data[place // 8] ^= 1 << (place % 8)
    path.write_bytes(data)


def cut(path: Path, size: int) -> None:
    """Leaves the first bytes only."""
    with path.open("r+b") as file:
        file.truncate(size)
