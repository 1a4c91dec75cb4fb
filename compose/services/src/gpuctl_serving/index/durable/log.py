"""The append log: a change is in it, and on disk, before anybody is told that it was made."""

import contextlib
import errno
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from gpuctl_serving.index.durable.broken import LogBroken
from gpuctl_serving.index.durable.files import sync_directory, write_all
from gpuctl_serving.index.durable.records import HEADER_BYTES, Frame, Header, Line, frame
from gpuctl_serving.index.durable.scan import FOLDER, SUFFIX, paths
from gpuctl_serving.kit.logs import Log

log = Log(__name__)

#: A disk that refuses for these reasons may take the same bytes later; nothing is unsure.
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


@dataclass(frozen=True)
class Policy:
    """When appended records are forced to disk, and how long a segment grows."""

    #: None: before every acknowledgement. Else at most so many seconds later.
    interval: float | None = None
    segment_bytes: int = 32 << 20


@dataclass(frozen=True)
class Position:
    """Where a log stands."""

    line: Line
    sequence: int
    crc: int


def next_path(directory: Path) -> Path:
    """The file of a new segment, which sorts after all others."""
    taken = paths(directory)
    return directory / FOLDER / f"{int(taken[-1].stem) + 1 if taken else 1:08d}{SUFFIX}"


def make_segment(directory: Path, at: Position, policy: Policy) -> Path:
    """A new, empty segment that continues at a position; durable when this returns."""
    path = next_path(directory)
    path.parent.mkdir(mode=0o700, exist_ok=True)
    header = Header(at.line, at.sequence + 1, at.crc, policy.interval is None)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        write_all(handle, header.packed())
        os.fsync(handle)
    except OSError:
        with contextlib.suppress(OSError):
            path.unlink()
        raise
    finally:
        os.close(handle)
    sync_directory(path.parent)
    return path


class AppendLog:
    """The open end of the log. Only the holder of the writer's lock has one; one thread uses it."""

    def __init__(
        self,
        directory: Path,
        path: Path,
        size: int,
        at: Position,
        policy: Policy,
        on_sync: Callable[[float], None],
    ) -> None:
        self._directory, self._policy, self._on_sync = directory, policy, on_sync
        self._path, self._size, self.at = path, size, at
        self._handle = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        os.lseek(self._handle, size, os.SEEK_SET)
        self._unsynced_since: float | None = None
        self.broken: str | None = None
        #: Bytes appended since this was opened; decides when a snapshot is due.
        self.appended = 0

    def frame(self, last: int, body: bytes) -> Frame:
        """The record of the changes after the last one, up to `last`."""
        return frame(self.at.sequence + 1, last, self.at.crc, body)

    def append(self, record: Frame) -> Callable[[], None]:
        """Puts a record at the end, on disk as the policy says; how to take it back.

        Raises OSError when nothing was appended, LogBroken when that is not sure.
        """
        self.check()
        if self._size >= self._policy.segment_bytes and self._size > HEADER_BYTES:
            self._rotate()
        size, at = self._size, self.at
        try:
            write_all(self._handle, record.data)
            if self._policy.interval is None:
                self._sync()
            elif self._unsynced_since is None:
                self._unsynced_since = time.monotonic()
        except OSError as failure:
            if failure.errno not in _NO_ROOM:
                # After a failed sync the kernel may have forgotten which pages never reached the disk.
                self._break(f"the disk failed: {failure.strerror or failure}")
            self._cut(size)
            raise
        self._size += len(record.data)
        self.appended += len(record.data)
        self.at = Position(at.line, record.last, record.crc)
        return lambda: self._undo(size, at)

    def check(self) -> None:
        """Raises LogBroken when the log was given up."""
        if self.broken:
            raise LogBroken(self.broken)

    def sync_if_due(self) -> None:
        """Forces to disk what has waited for the policy's interval."""
        since, interval = self._unsynced_since, self._policy.interval
        if since is not None and (interval is None or time.monotonic() - since >= interval):
            self.sync()

    def sync(self) -> None:
        """Forces everything appended to disk. Raises LogBroken when that fails."""
        if self._unsynced_since is None:
            return
        try:
            self._sync()
        except OSError as failure:
            self._break(f"the disk failed: {failure.strerror or failure}")

    @property
    def waits_for_sync(self) -> bool:
        """Whether something acknowledged is not forced to disk yet."""
        return self._unsynced_since is not None

    def close(self) -> None:
        """Forces everything to disk and closes the file."""
        try:
            with contextlib.suppress(LogBroken):
                self.sync()
        finally:
            os.close(self._handle)

    def _sync(self) -> None:
        began = time.perf_counter()
        os.fdatasync(self._handle)
        self._unsynced_since = None
        self._on_sync(time.perf_counter() - began)

    def _rotate(self) -> None:
        self.sync()
        path = make_segment(self._directory, self.at, self._policy)
        handle = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        os.close(self._handle)
        self._handle, self._path, self._size = handle, path, HEADER_BYTES
        os.lseek(handle, 0, os.SEEK_END)
        log.debug("log-rotated", segment=path.name, sequence=self.at.sequence)

    def _undo(self, size: int, at: Position) -> None:
        self._cut(size)
        self.at = at

    def _cut(self, size: int) -> None:
        try:
            os.ftruncate(self._handle, size)
            os.lseek(self._handle, size, os.SEEK_SET)
            os.fsync(self._handle)
        except OSError as failure:
            self._break(f"a record could not be taken back: {failure.strerror or failure}")
        self._size = size

    def _break(self, why: str) -> None:
        self.broken = why
        log.error("log-broken", reason=why, segment=self._path.name, sequence=self.at.sequence)
        raise LogBroken(why)
