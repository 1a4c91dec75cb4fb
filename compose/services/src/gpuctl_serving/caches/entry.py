"""One answer as caches keep it: the engine's raw row and what it cost, and its form outside this process."""

import struct
import time
from collections.abc import Callable
from dataclasses import dataclass

import google_crc32c
import numpy as np
from numpy.typing import NDArray

#: Magic, whether it was truncated, tokens, when it was computed (seconds since 1970), numbers, CRC32C over
#: key and everything before and after it.
_HEAD = struct.Struct("<4sBIIII")
_MAGIC = b"gpc2"
#: What an entry costs beside its numbers: key, objects, its place in the dictionary and what the allocator
#: rounds up; measured as growth of the resident set.
_OVERHEAD = 640


@dataclass(frozen=True, slots=True)
class Entry:
    """The engine's answer for one text or one pair, before any normalising or shortening."""

    #: One dimension; a score is a row of one number.
    row: NDArray[np.float32]
    tokens: int
    truncated: bool
    #: Seconds since it was computed, when it came from outside: it is not kept for longer for that.
    age: int = 0

    @property
    def cost(self) -> int:
        """Bytes of memory it takes."""
        return self.row.nbytes + _OVERHEAD


def encode(key: bytes, entry: Entry, now: Callable[[], float] = time.time) -> bytes:
    """The entry as bytes that say whose they are, whether they are whole and how old."""
    numbers = entry.row.astype("<f4", copy=False).tobytes()
    flags, made = int(entry.truncated), int(now()) - entry.age
    checksum = _checksum(key, flags, entry.tokens, made, numbers)
    return _HEAD.pack(_MAGIC, flags, entry.tokens, made, len(entry.row), checksum) + numbers


def decode(key: bytes, value: bytes, width: int, now: Callable[[], float] = time.time) -> Entry | None:
    """The entry, or None for bytes that are torn, foreign, of another width or no finite numbers."""
    if len(value) != _HEAD.size + 4 * width:
        return None
    magic, flags, tokens, made, count, checksum = _HEAD.unpack_from(value)
    numbers = value[_HEAD.size :]
    if magic != _MAGIC or count != width or flags > 1:
        return None
    if checksum != _checksum(key, flags, tokens, made, numbers):
        return None
    row = np.frombuffer(numbers, "<f4").astype(np.float32, copy=False)
    # A clock of another machine that is ahead makes nothing younger than new.
    age = max(0, int(now()) - made)
    return Entry(row, tokens, bool(flags), age) if np.isfinite(row).all() else None


def _checksum(key: bytes, flags: int, tokens: int, made: int, numbers: bytes) -> int:
    facts = struct.pack("<BII", flags, tokens, made)
    return int(google_crc32c.extend(google_crc32c.value(key + facts), numbers))
