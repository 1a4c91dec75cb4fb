"""Snapshots on disk: what one holds, whether it can be believed, which is the newest."""

import shutil
from pathlib import Path
from typing import Any

import msgspec
import orjson

from gpuctl_serving.index.durable.files import sha256_of, sync_directory, write_synced
from gpuctl_serving.index.durable.seals import checksum

FOLDER = "snapshots"
CURRENT = "CURRENT"
MANIFEST = "manifest.json"
FORMAT = 1
#: Begins the names of what is being made or removed; a start clears it away.
UNFINISHED = "."


class FileFacts(msgspec.Struct, frozen=True):
    """One file of a snapshot."""

    sha256: str
    bytes: int


class Space(msgspec.Struct, frozen=True):
    """One generation in a snapshot."""

    key: str
    dimension: int
    vectors: int


class Faiss(msgspec.Struct, frozen=True, rename="camel"):
    """The FAISS files of the generation that was served."""

    version: str
    generation: str
    dimension: int
    metric: str
    type: str
    #: The files hold at least every change up to here, and none after `newest`.
    sequence: int
    newest: int
    files: list[str]
    parameters: dict[str, Any] = {}


class Manifest(msgspec.Struct, frozen=True, rename="camel"):
    """What a snapshot says about itself."""

    format: int
    line: str
    sequence: int
    crc: int
    created_at: str
    #: Seconds since 1970, for its age.
    created: float
    version: str
    items: int
    namespaces: dict[str, int]
    generations: list[Space]
    files: dict[str, FileFacts]
    faiss: Faiss | None = None


class SnapshotInvalid(Exception):
    """A snapshot cannot be used; the message says why."""


def write_manifest(directory: Path, manifest: Manifest) -> None:
    """Writes it with a checksum of its own."""
    raw = msgspec.to_builtins(manifest)
    document = {"manifest": raw, "checksum": checksum(_canonical(raw))}
    write_synced(directory / MANIFEST, orjson.dumps(document, option=orjson.OPT_INDENT_2) + b"\n")


def read_manifest(directory: Path) -> Manifest:
    """Reads it. Raises SnapshotInvalid."""
    try:
        document = orjson.loads((directory / MANIFEST).read_bytes())
        raw = document["manifest"]
        if checksum(_canonical(raw)) != document["checksum"]:
            raise SnapshotInvalid(f"{directory.name}: the manifest's checksum is wrong")
        if raw["format"] > FORMAT:
            raise SnapshotInvalid(f"{directory.name}: written by a newer version (format {raw['format']})")
        return msgspec.convert(raw, Manifest)
    except (OSError, ValueError, KeyError, TypeError, msgspec.MsgspecError) as wrong:
        raise SnapshotInvalid(f"{directory.name}: the manifest cannot be read ({wrong})") from wrong


def check_files(directory: Path, manifest: Manifest, names: list[str] | None = None) -> None:
    """Compares files (all of them, or those named) with their hashes. Raises SnapshotInvalid."""
    for name in manifest.files if names is None else names:
        facts, path = manifest.files.get(name), directory / name
        if facts is None or Path(name).is_absolute() or ".." in Path(name).parts:
            raise SnapshotInvalid(f"{directory.name}: the manifest names no proper file {name}")
        try:
            if not path.is_file() or path.stat().st_size != facts.bytes:
                raise SnapshotInvalid(f"{directory.name}: {name} is missing or has another size")
            if sha256_of(path) != facts.sha256:
                raise SnapshotInvalid(f"{directory.name}: {name} does not have its hash")
        except OSError as failure:
            # Bad sectors of one snapshot are no reason not to try the one before it.
            raise SnapshotInvalid(
                f"{directory.name}: {name} cannot be read ({failure.strerror})"
            ) from failure


def snapshots(directory: Path) -> list[Path]:
    """Every complete snapshot of an index directory, the one CURRENT names first, then the newest first."""
    folder = directory / FOLDER
    if not folder.is_dir():
        return []
    found = sorted(
        (one for one in folder.iterdir() if one.is_dir() and not one.name.startswith(UNFINISHED)),
        reverse=True,
    )
    current = current_name(directory)
    return sorted(found, key=lambda one: one.name != current)


def current_name(directory: Path) -> str:
    """The snapshot CURRENT names; empty when it names none."""
    try:
        return (directory / FOLDER / CURRENT).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return ""


def remove(path: Path) -> None:
    """Removes a snapshot: first its name, so that a half removed one is never taken for a whole one."""
    doomed = path.with_name(f"{UNFINISHED}removed-{path.name}")
    path.rename(doomed)
    sync_directory(path.parent)
    shutil.rmtree(doomed)


def clear_unfinished(directory: Path) -> list[str]:
    """Removes what a kill left half made or half removed; the names."""
    folder = directory / FOLDER
    left = [one for one in folder.iterdir() if one.name.startswith(UNFINISHED)] if folder.is_dir() else []
    for one in left:
        if one.is_dir():
            shutil.rmtree(one)
        else:
            one.unlink()
    return [one.name for one in left]


def _canonical(document: Any) -> bytes:
    return orjson.dumps(document, option=orjson.OPT_SORT_KEYS)
