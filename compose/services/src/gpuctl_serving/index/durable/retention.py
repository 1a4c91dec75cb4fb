"""What is kept on disk: the newest snapshots, and the log behind the oldest; and whether that is whole."""

import os
from pathlib import Path

from gpuctl_serving.index.durable import manifest as manifests
from gpuctl_serving.index.durable import scan
from gpuctl_serving.index.durable.files import sync_directory
from gpuctl_serving.index.durable.records import HEADER_BYTES, Header
from gpuctl_serving.kit.errors import LoadFailed
from gpuctl_serving.kit.logs import Log

log = Log(__name__)


def clear_old(directory: Path, line: bytes, keep: int) -> None:
    """Removes snapshots beyond the newest `keep`, and the log's segments that no kept one needs."""
    known: list[tuple[bool, int, Path]] = []
    for one in manifests.snapshots(directory):
        try:
            found = manifests.read_manifest(one)
            known.append((found.line == line.hex(), found.sequence, one))
        except manifests.SnapshotInvalid as invalid:
            # Not counted and not removed: a person may want to look at it.
            log.warning("snapshot-invalid", reason=str(invalid))
    known.sort(key=lambda one: (one[0], one[1], one[2].name), reverse=True)
    for _, _, path in known[keep:]:
        manifests.remove(path)
    needed = [sequence for own, sequence, _ in known[:keep] if own]
    if needed and (removed := trim_log(directory, line, min(needed))):
        log.info("log-trimmed", segments=removed, upto=min(needed))


def trim_log(directory: Path, line: bytes, upto: int) -> int:
    """Removes segments with nothing behind change `upto`, and those of lines before this one; how many."""
    files = scan.paths(directory)
    headers = [Header.of(_head(path)) for path in files]
    begin = next((at for at, one in enumerate(headers) if one and one.line == line), 0)
    doomed = files[:begin]
    for path, following in zip(files[begin:-1], headers[begin + 1 :], strict=True):
        if following is None or following.line != line or following.first - 1 > upto:
            break
        doomed.append(path)
    # Oldest first: whatever is left after a kill is a chain to the end.
    for path in doomed:
        path.unlink()
    if doomed:
        sync_directory(directory / scan.FOLDER)
    return len(doomed)


def _head(path: Path) -> bytes:
    handle = os.open(path, os.O_RDONLY)
    try:
        return os.read(handle, HEADER_BYTES)
    finally:
        os.close(handle)


def verify(directory: Path) -> list[str]:
    """What is wrong with the snapshots and the log of a directory; reads everything."""
    wrong: list[str] = []
    for one in manifests.snapshots(directory):
        try:
            manifests.check_files(one, manifests.read_manifest(one))
        except manifests.SnapshotInvalid as invalid:
            wrong.append(f"snapshot {invalid}")
    try:
        segments = scan.scan_all(directory)
    except LoadFailed as newer:
        return [*wrong, str(newer)]
    wrong += [f"log {one.trouble}" for one in segments if one.trouble is not None]
    found = scan.history(segments)
    if found is not None and found.trouble is not None and not wrong:
        wrong.append(f"log {found.trouble}")
    return wrong
