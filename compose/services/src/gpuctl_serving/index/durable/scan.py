"""Reads the log as it lies on disk, and says what of it can be relied on."""

import mmap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from gpuctl_serving.index.durable.records import (
    FRAME,
    HEADER_BYTES,
    MARK,
    VERSION,
    Found,
    Header,
    Line,
    read,
)
from gpuctl_serving.index.durable.seals import checksum
from gpuctl_serving.kit.errors import LoadFailed

FOLDER = "log"
SUFFIX = ".log"


@dataclass(frozen=True)
class Trouble:
    """Why a segment cannot be read on from some place."""

    #: torn: an append that never finished, as a kill leaves it. bad: bytes that were whole once and are not.
    kind: Literal["torn", "bad"]
    path: Path
    offset: int
    what: str

    def __str__(self) -> str:
        return f"{self.path.name} at byte {self.offset}: {self.what}"


@dataclass
class Segment:
    """One file of the log."""

    path: Path
    size: int
    header: Header | None
    records: list[Found] = field(default_factory=list)
    trouble: Trouble | None = None
    #: A valid record lies behind the trouble.
    beyond: bool = False

    @property
    def end(self) -> int:
        """Where the next record belongs."""
        return self.records[-1].end if self.records else HEADER_BYTES

    @property
    def last(self) -> int:
        """Number of the last change in it; one before its first when it is empty."""
        return self.records[-1].last if self.records else (self.header.first - 1 if self.header else -1)

    @property
    def crc(self) -> int:
        """Checksum the next record must name."""
        return self.records[-1].crc if self.records else (self.header.before if self.header else 0)


@dataclass
class History:
    """The newest line of the log: a chain of records without a gap, up to its end or to a trouble."""

    line: Line
    segments: list[Segment]
    trouble: Trouble | None = None
    #: Records lie behind the trouble which were in the log once.
    beyond: bool = False

    @property
    def first(self) -> int:
        """Number of the first change that is still in the log."""
        header = self.segments[0].header
        assert header is not None  # noqa: S101  a history is made of segments that have one
        return header.first

    @property
    def last(self) -> int:
        """Number of the last change that can be relied on."""
        return self.segments[-1].last

    @property
    def begins(self) -> bool:
        """Whether it is here from the very first change."""
        return self.first == 1

    def crc_at(self, sequence: int) -> int | None:
        """Checksum of the record that ends with this change; None when no record does."""
        header = self.segments[0].header
        if header is not None and sequence == header.first - 1:
            return header.before
        for segment in self.segments:
            for found in segment.records:
                if found.last == sequence:
                    return found.crc
        return None


@contextmanager
def mapped(path: Path) -> Iterator[memoryview]:
    """A file's content without reading it at once."""
    with path.open("rb") as file:
        if not path.stat().st_size:
            yield memoryview(b"")
            return
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            view = memoryview(content)
            try:
                yield view
            finally:
                view.release()


def paths(directory: Path) -> list[Path]:
    """The segments' files, oldest first."""
    return sorted(path for path in (directory / FOLDER).glob(f"*{SUFFIX}") if path.stem.isdecimal())


def scan(path: Path) -> Segment:
    """Reads one segment up to the first thing that is wrong. Raises LoadFailed for a newer format."""
    with mapped(path) as data:
        header = Header.of(bytes(data[:HEADER_BYTES]))
        segment = Segment(path, len(data), header)
        if header is None:
            kind: Literal["torn", "bad"] = "torn" if len(data) < HEADER_BYTES else "bad"
            segment.trouble = Trouble(kind, path, 0, "the segment's header cannot be read")
            segment.beyond = _beyond(data, 0, 0)
            return segment
        if header.version > VERSION:
            raise LoadFailed(
                f"{path} was written by a newer version (format {header.version}; this one knows {VERSION}). "
                "Deploy that version, or restore a backup made by this one."
            )
        offset, last, crc = HEADER_BYTES, header.first - 1, header.before
        while offset < len(data):
            found = read(data, offset)
            if found is None or found.first != last + 1 or found.before != crc:
                segment.trouble = _trouble(path, data, offset, found)
                segment.beyond = found is not None or _beyond(data, offset + 1, last)
                break
            segment.records.append(found)
            offset, last, crc = found.end, found.last, found.crc
        return segment


def _trouble(path: Path, data: memoryview, offset: int, found: Found | None) -> Trouble:
    if found is not None:
        return Trouble("bad", path, offset, "a record that does not follow the one before it")
    left = len(data) - offset
    if left < FRAME.size:
        return Trouble("torn", path, offset, f"{left} bytes of a record that was never finished")
    length, crc = FRAME.unpack_from(data, offset)
    whole = bytes(data[offset + FRAME.size :])
    # A length that was changed makes a whole record look unfinished; its checksum tells.
    if length > len(whole) and checksum(whole) != crc:
        return Trouble("torn", path, offset, f"{left} bytes of a record that was never finished")
    if not any(whole):
        return Trouble("torn", path, offset, f"{left} bytes that were never written")
    return Trouble("bad", path, offset, "a record whose checksum is wrong")


def _beyond(data: memoryview, offset: int, last: int) -> bool:
    """Whether a valid record begins anywhere behind an offset."""
    raw = bytes(data[offset:])
    at = raw.find(MARK)
    while at >= 0:
        begins = offset + at - FRAME.size
        found = read(data, begins) if begins >= HEADER_BYTES else None
        if found is not None and found.first > last:
            return True
        at = raw.find(MARK, at + 1)
    return False


def scan_all(directory: Path, newest: int | None = None) -> list[Segment]:
    """Every segment, or the newest few, in order."""
    found = paths(directory)
    return [scan(path) for path in (found if newest is None else found[-newest:])]


def history(segments: list[Segment], after: int | None = None) -> History | None:
    """The newest line, from the segment on that holds the change behind `after`; None when there is none."""
    end = len(segments)
    # A last segment without a record may be one whose making a kill interrupted.
    while end and segments[end - 1].header is None and not segments[end - 1].beyond:
        end -= 1
    newest = next((one.header.line for one in reversed(segments[:end]) if one.header), None)
    if newest is None:
        return None
    own = [at for at in range(end) if (header := segments[at].header) and header.line == newest]
    begin = own[0]
    for at in own:
        header = segments[at].header
        if after is not None and header is not None and header.first - 1 <= after:
            begin = at
    return _chained(newest, segments[begin:end])


def _chained(line: Line, segments: list[Segment]) -> History:
    made = History(line, segments[:1], segments[0].trouble, segments[0].beyond)
    for segment in segments[1:]:
        if made.trouble is not None:
            made.trouble = Trouble("bad", made.trouble.path, made.trouble.offset, made.trouble.what)
            made.beyond = made.beyond or bool(segment.records) or segment.beyond
            continue
        header, before = segment.header, made.segments[-1]
        follows = header and (header.line, header.first, header.before) == (line, before.last + 1, before.crc)
        if not follows:
            what = (
                "the segment's header cannot be read" if header is None else "a segment before it is missing"
            )
            made.trouble = Trouble("bad", segment.path, 0, what)
            made.beyond = bool(segment.records) or segment.beyond
            continue
        made.segments.append(segment)
        made.trouble, made.beyond = segment.trouble, segment.beyond
    return made
