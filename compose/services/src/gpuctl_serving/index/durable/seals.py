"""Checksums (CRC32C) of rows, stored beside them: a flipped bit is found, not served."""

import struct

import google_crc32c

_VECTOR = struct.Struct("<qqq")


def checksum(data: bytes, before: int = 0) -> int:
    """CRC32C of some bytes, after those that gave `before`."""
    return int(google_crc32c.extend(before, data))


def seal_item(item: int, ns: int, sequence: int, name: str, text: str | None, metadata: str) -> int:
    """Checksum of an item's row."""
    kind = "n" if text is None else "t"
    row = f"{item}\0{ns}\0{sequence}\0{kind}\0{len(name)}\0{name}{len(metadata)}\0{metadata}{text or ''}"
    return int(google_crc32c.value(row.encode()))


def seal_vector(gen: int, item: int, sequence: int, vector: bytes) -> int:
    """Checksum of a vector's row."""
    return int(google_crc32c.extend(google_crc32c.value(_VECTOR.pack(gen, item, sequence)), vector))
