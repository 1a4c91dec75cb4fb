"""What a start makes of a directory that a kill left, compared with what was acknowledged."""

import sqlite3
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.index.durable import damage

from gpuctl_serving.index.durable import manifest as manifests
from gpuctl_serving.index.durable import scan
from gpuctl_serving.index.durable.restore import MARK
from gpuctl_serving.index.rows import Rows
from gpuctl_serving.index.schema import DATABASE
from tests_long.durability.acknowledged import PLAIN, Model, item
from tests_long.durability.bench import Bench, Service

KEPT = 2
#: All that an index directory may hold when nothing is under way.
_PARTS = {DATABASE, f"{DATABASE}-wal", f"{DATABASE}-shm", "log", manifests.FOLDER, "writer.lock", "damaged"}


@dataclass
class Found:
    """What lay there before the start, and what it said."""

    #: Kinds of what was unfinished.
    left: Counter[str] = field(default_factory=Counter)
    did: str = ""
    replayed: int = 0


def examine(bench: Bench, directory: Path, model: Model) -> Found:
    """Starts over a killed directory, and over a copy that has lost its database. Fails at any difference."""
    copy = bench.copy(directory, "copy")
    unfinished = _unfinished(directory)
    behind = _behind(copy)
    with bench.service(directory) as service:
        model.compare(service.http)
        told = service.stats()["durability"]["recovery"]
        _check_report(told, unfinished, behind)
        _goes_on(service, directory, model.copy())
    _rebuilt(bench, copy, model)
    return Found(Counter(map(_kind, unfinished)), told["did"], told["replayed"])


def _unfinished(directory: Path) -> list[str]:
    """Names of what a kill left half made or half removed."""
    folder = directory / manifests.FOLDER
    return sorted(one.name for one in folder.iterdir() if one.name.startswith(manifests.UNFINISHED))


def _kind(name: str) -> str:
    return name.removeprefix(".").split("-")[0].removesuffix(".new")


def _behind(copy: Path) -> int:
    """How many changes are in the log and not in the database."""
    found = scan.history(scan.scan_all(copy))
    connection = sqlite3.connect(copy / DATABASE)
    try:
        tail = Rows(connection).tail()
    finally:
        connection.close()
    assert found is not None and tail is not None and found.trouble is None, found
    return found.last - tail.sequence


def _check_report(told: dict[str, Any], unfinished: list[str], behind: int) -> None:
    """The start says what it did: all of it, and nothing else."""
    said = sorted(f"An unfinished snapshot ({name}) was removed." for name in unfinished)
    if behind:
        said.append(f"{behind} changes were in the log and not in the database, and are now.")
    assert sorted(told["said"]) == sorted(said), told
    assert (told["did"], told["replayed"]) == ("replayed" if behind else "nothing", behind), told
    assert told["movedAside"] == [] and told["rebuiltFrom"] == "", told


def _goes_on(service: Service, directory: Path, model: Model) -> None:
    """It takes writes, makes a snapshot, removes what is left over, and finds nothing wrong."""
    assert _unfinished(directory) == []
    key = (PLAIN, "afterwards")
    model.begins(key, 1)
    service.post("add", {"namespace": key[0], "items": [item(key[1], 1)]})
    model.acknowledged()
    made = service.post("snapshot")
    assert made["state"] == "done" and made["result"]["items"] == len(model.versions), made
    verified = service.post("verify")["result"]
    assert verified["ok"] and verified["items"] == len(model.versions), verified
    assert manifests.current_name(directory) == made["result"]["snapshot"]
    assert len(manifests.snapshots(directory)) == KEPT and _unfinished(directory) == []
    strange = {one.name for one in directory.iterdir()} - _PARTS
    assert strange == set() and not (directory / MARK).exists(), strange
    model.compare(service.http)


def _rebuilt(bench: Bench, copy: Path, model: Model) -> None:
    """The snapshots and the log that the kill left hold everything on their own."""
    for file in damage.database_files(copy):
        file.unlink()
    # Read before the start: it makes a snapshot of its own soon, which replaces the oldest.
    known = {one.name: manifests.read_manifest(one).sequence for one in manifests.snapshots(copy)}
    found = scan.history(scan.scan_all(copy))
    with bench.service(copy) as service:
        model.compare(service.http)
        told = service.stats()["durability"]["recovery"]
    assert told["did"] == "rebuilt" and "database-rebuilt" in bench.log(), told
    assert f"made again from {told['rebuiltFrom']}" in told["said"][-1], told
    used = known[told["rebuiltFrom"].removeprefix("snapshot ")]
    assert found is not None and told["replayed"] == found.last - used, told
