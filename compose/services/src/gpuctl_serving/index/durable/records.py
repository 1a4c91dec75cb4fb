"""The log's format: a segment's header, and records of the changes of one commit group.

A segment is a header of 64 bytes and then records, each `[u32 length][u32 CRC32C][payload]`, little-endian.
A payload begins with a mark, the first and last sequence number of its changes, and the checksum of the
record before it: records form a chain, so that one cannot be replaced or left out unseen. The rest is the
changes themselves in MessagePack, with every number that the database gave them: replaying them makes the
same rows again.
"""

import struct
import time
from dataclasses import dataclass

import msgspec

from gpuctl_serving.index.durable.seals import checksum

MAGIC = b"GPUCTLOG"
VERSION = 1
#: Begins every payload: where a record may begin can be looked for behind a damaged one.
MARK = b"\xf1gr\x01"

_HEADER = struct.Struct("<8sII16sQIQ")
_CHECK = struct.Struct("<I")
HEADER_BYTES = 64
FRAME = struct.Struct("<II")
_CHAIN = struct.Struct("<4sQQI")
_SHORTEST = _CHAIN.size

Line = bytes
#: (generation, unit vector as little-endian float32)
Embedded = tuple[int, bytes]


class Put(msgspec.Struct, tag="p", array_like=True, frozen=True):
    """An item was added or replaced."""

    item: int
    ns: int
    id: str
    text: str | None
    metadata: str
    vectors: list[Embedded]


class Delete(msgspec.Struct, tag="d", array_like=True, frozen=True):
    """An item was removed."""

    item: int


class Embed(msgspec.Struct, tag="e", array_like=True, frozen=True):
    """An item got its vector in another generation; `sequence` is the item's, which does not change."""

    item: int
    ns: int
    sequence: int
    gen: int
    vector: bytes


class Prune(msgspec.Struct, tag="x", array_like=True, frozen=True):
    """A generation was forgotten."""

    gen: int


class Rename(msgspec.Struct, tag="n", array_like=True, frozen=True):
    """A namespace got another name; its items stay what they are."""

    ns: int
    name: str


#: One change; each has a sequence number of its own, counted from the record's first.
Op = Put | Delete | Embed | Prune | Rename


class Body(msgspec.Struct, array_like=True, frozen=True):
    """The changes of one record, and what the numbers of the namespaces and generations in them mean."""

    namespaces: dict[int, str]
    #: Number -> (key, dimension).
    generations: dict[int, tuple[str, int]]
    ops: list[Op]


encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Body).decode


@dataclass(frozen=True)
class Header:
    """What a segment says about itself."""

    #: The history its records belong to: it changes whenever a log does not continue another one.
    line: Line
    #: Sequence number of its first change.
    first: int
    #: Checksum of the record before its first one; 0 at the beginning of a line.
    before: int
    #: Whether every record was synced before it was acknowledged.
    synced: bool
    version: int = VERSION

    def packed(self) -> bytes:
        """As it lies in the file."""
        now = int(time.time() * 1000)
        raw = _HEADER.pack(MAGIC, self.version, int(self.synced), self.line, self.first, self.before, now)
        return (raw + _CHECK.pack(checksum(raw))).ljust(HEADER_BYTES, b"\0")

    @classmethod
    def of(cls, raw: bytes) -> "Header | None":
        """Reads it; None when it cannot be one."""
        if len(raw) < HEADER_BYTES or any(raw[_HEADER.size + _CHECK.size : HEADER_BYTES]):
            return None
        magic, version, synced, line, first, before, _ = _HEADER.unpack_from(raw)
        (check,) = _CHECK.unpack_from(raw, _HEADER.size)
        if magic != MAGIC or checksum(raw[: _HEADER.size]) != check:
            return None
        return cls(line, first, before, bool(synced), version)


@dataclass(frozen=True)
class Frame:
    """A record as it is appended."""

    first: int
    last: int
    crc: int
    data: bytes


def frame(first: int, last: int, before: int, body: bytes) -> Frame:
    """A record of the changes `first` to `last` after the record with checksum `before`."""
    payload = _CHAIN.pack(MARK, first, last, before) + body
    crc = checksum(payload)
    return Frame(first, last, crc, FRAME.pack(len(payload), crc) + payload)


@dataclass(frozen=True)
class Found:
    """A valid record in a segment."""

    offset: int
    end: int
    first: int
    last: int
    before: int
    crc: int


def read(data: memoryview, offset: int) -> Found | None:
    """The record at an offset; None when there is no valid one."""
    if offset + FRAME.size > len(data):
        return None
    length, crc = FRAME.unpack_from(data, offset)
    start, end = offset + FRAME.size, offset + FRAME.size + length
    if length < _SHORTEST or end > len(data):
        return None
    if checksum(bytes(data[start:end])) != crc:
        return None
    mark, first, last, before = _CHAIN.unpack_from(data, start)
    return Found(offset, end, first, last, before, crc) if mark == MARK and first <= last else None


def body_of(data: memoryview, found: Found) -> Body:
    """The changes of a record. Raises msgspec.DecodeError when a newer version wrote something unknown."""
    return _decode(data[found.offset + FRAME.size + _SHORTEST : found.end])
