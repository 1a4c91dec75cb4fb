"""What a migration has done so far, in its backup directory, so that the same command goes on from there."""

import fcntl
import hashlib
import json
import os
from pathlib import Path
from typing import IO, Any

from gpuctl_serving.migration.problems import MigrationProblem

_NAME = "migration.json"
#: What may be decided anew while nothing was switched.
_CHOICES = {"reEmbed"}


class Journal:
    """Steps that are done, each with its result. Every change is on the disk before `record` returns.

    One process at a time: it is locked until the process ends, however it ends.
    """

    def __init__(self, directory: Path, source: dict[str, Any] | None) -> None:
        """`source` is what makes a migration the same one; None takes the one that is there."""
        self._file = directory / _NAME
        self._value: dict[str, Any] = {"schemaVersion": 1, "source": source, "steps": {}}
        try:
            if source is not None:
                directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            if source is not None or self._file.exists():
                self._lock = _locked(directory)
            if self._file.exists():
                self._value = self._read(source)
        except OSError as failure:
            raise _unusable(directory, failure) from failure

    @property
    def namespace(self) -> str | None:
        """The namespace that was migrated; None when nothing was."""
        found = (self._value["source"] or {}).get("namespace")
        return str(found) if found is not None else None

    def _read(self, source: dict[str, Any] | None) -> dict[str, Any]:
        try:
            value: dict[str, Any] = json.loads(self._file.read_text())
            known, steps = dict(value["source"]), dict(value["steps"])
        except (ValueError, KeyError, TypeError) as wrong:
            raise MigrationProblem(
                f"{self._file} is not a migration's journal", str(wrong), "give another --backup-dir"
            ) from wrong
        if source is None or known == source:
            return value
        differing = {name for name in {*known, *source} if known.get(name) != source.get(name)}
        if differing <= _CHOICES and "switch" not in steps:
            # What was loaded is replaced item by item: the ids are the same.
            return {**value, "source": source, "steps": {}}
        raise MigrationProblem(
            f"{self._file.parent} belongs to another migration",
            "the FAISS file, its documents or the namespace are not those it began with, or it has switched",
            "give another --backup-dir, or put the old files back",
        )

    def noted(self, name: str) -> Any:
        """What `note` remembered; None when nothing."""
        return self._value.get("notes", {}).get(name)

    def note(self, name: str, value: Any) -> None:
        """Remembers what is about to be done, so that a death in between is understood."""
        self._value.setdefault("notes", {})[name] = value
        self._write()

    def result(self, step: str) -> dict[str, Any] | None:
        """What a finished step said; None while it is not finished."""
        found: dict[str, Any] = self._value["steps"].get(step, {})
        return {name: value for name, value in found.items() if name != "done"} if "done" in found else None

    def progress(self, step: str) -> int:
        """How far an unfinished step came."""
        return int(self._value["steps"].get(step, {}).get("upto", 0))

    def advance(self, step: str, upto: int) -> None:
        """Remembers that a step is done up to here."""
        self._value["steps"][step] = {"upto": upto}
        self._write()

    def record(self, step: str, result: dict[str, Any]) -> dict[str, Any]:
        """Remembers that a step is done."""
        self._value["steps"][step] = {"done": True, **result}
        self._write()
        return result

    def forget(self, *steps: str) -> None:
        """These are to be done again."""
        for step in steps:
            self._value["steps"].pop(step, None)
        self._write()

    def _write(self) -> None:
        fresh = self._file.with_suffix(".new")
        try:
            with fresh.open("w") as out:
                json.dump(self._value, out, indent=1)
                out.flush()
                os.fsync(out.fileno())
            fresh.replace(self._file)
        except OSError as failure:
            raise _unusable(self._file.parent, failure) from failure


def _locked(directory: Path) -> IO[str]:
    lock = (directory / ".migration.lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as held:
        lock.close()
        raise MigrationProblem(
            f"another migration is running with {directory}",
            "two at once would write one journal",
            "wait until it is over, then run it again",
        ) from held
    return lock


def sha256_of(path: Path) -> str:
    """Hash of a file, read in pieces."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def _unusable(directory: Path, failure: OSError) -> MigrationProblem:
    return MigrationProblem(
        f"{directory} cannot be written",
        failure.strerror or str(failure),
        "free space or give another --backup-dir, then run it again: it goes on where it stopped",
    )
