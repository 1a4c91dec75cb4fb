"""The first level: a dictionary bounded by entries and by bytes that forgets what was used least recently."""

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from gpuctl_serving.caches.entry import Entry

Eviction = Literal["entries", "bytes", "expired"]
EVICTIONS: tuple[Eviction, ...] = ("entries", "bytes", "expired")


@dataclass(frozen=True)
class Bounds:
    """How much is kept and for how long. Nothing is kept when either size is 0."""

    entries: int
    bytes: int
    #: Seconds; 0 keeps an entry until there is no room.
    ttl: float

    @property
    def off(self) -> bool:
        """Whether nothing is kept at all."""
        return self.entries == 0 or self.bytes == 0


class MemoryCache:
    """Used on one event loop only: no lock."""

    def __init__(
        self,
        bounds: Bounds,
        evicted: Callable[[Eviction], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._bounds = bounds
        self._evicted = evicted
        self._clock = clock
        #: Key -> entry and when it expires, least recently used first.
        self._held: OrderedDict[bytes, tuple[Entry, float]] = OrderedDict()
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._held)

    def get(self, key: bytes) -> Entry | None:
        """The entry, now the most recently used; None when there is none or it is too old."""
        held = self._held.get(key)
        if held is None:
            return None
        entry, expires = held
        if expires <= self._clock():
            self._forget(key, "expired")
            return None
        self._held.move_to_end(key)
        return entry

    def put(self, key: bytes, entry: Entry) -> None:
        """Keeps an entry, if it fits at all, in place of whatever was used least recently."""
        bounds = self._bounds
        if (before := self._held.pop(key, None)) is not None:
            self.bytes -= before[0].cost
        if bounds.off or entry.cost > bounds.bytes or (bounds.ttl and entry.age >= bounds.ttl):
            return
        while len(self._held) >= bounds.entries:
            self._forget(next(iter(self._held)), "entries")
        while self.bytes + entry.cost > bounds.bytes:
            self._forget(next(iter(self._held)), "bytes")
        expires = self._clock() + bounds.ttl - entry.age if bounds.ttl else float("inf")
        self._held[key] = (entry, expires)
        self.bytes += entry.cost

    def clear(self) -> None:
        """Forgets everything."""
        self._held.clear()
        self.bytes = 0

    def _forget(self, key: bytes, why: Eviction) -> None:
        entry, _ = self._held.pop(key)
        self.bytes -= entry.cost
        self._evicted(why)
