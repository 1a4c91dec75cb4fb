"""Both levels behind one look-up: memory first, then Redis for what is missing."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from gpuctl_serving.caches.entry import Entry, decode, encode
from gpuctl_serving.caches.memory import Bounds, MemoryCache
from gpuctl_serving.caches.metrics import CacheMetrics

if TYPE_CHECKING:
    from gpuctl_serving.caches.redis_level import RedisLevel


class ResultCache:
    """Used on one event loop."""

    def __init__(self, bounds: Bounds, redis: "RedisLevel | None", metrics: CacheMetrics) -> None:
        self._memory = MemoryCache(bounds, lambda why: metrics.evictions.labels(why).inc())
        self._redis = redis
        self._metrics = metrics
        self.off = bounds.off and redis is None
        metrics.watch(lambda: len(self._memory), lambda: self._memory.bytes)

    def remembered(self, keys: Sequence[bytes]) -> dict[bytes, Entry]:
        """What memory knows of these keys."""
        known = {key: entry for key in keys if (entry := self._memory.get(key)) is not None}
        self._metrics.looked_up(len(known), 0, 0)
        return known

    async def fetched(self, keys: Sequence[bytes], width: int) -> dict[bytes, Entry]:
        """What Redis knows of keys that memory does not; `width` is how many numbers an answer has."""
        known: dict[bytes, Entry] = {}
        if self._redis is not None:
            known = self._decoded(keys, await self._redis.get(keys), width)
            self._remember(known)
        self._metrics.looked_up(0, len(known), len(keys) - len(known))
        return known

    def passed_by(self, inputs: int) -> None:
        """Counts inputs that were not to be looked up. Often a gate's: what follows finds Redis connected."""
        self._metrics.bypassed.inc(inputs)
        if self._redis is not None:
            self._redis.wake()

    def keep(self, entries: Mapping[bytes, Entry]) -> None:
        """Remembers answers in both levels; does not wait."""
        self._remember(entries)
        if self._redis is not None:
            self._redis.put([(key, encode(key, entry)) for key, entry in entries.items()])

    async def close(self) -> None:
        """Forgets everything and leaves Redis."""
        self._memory.clear()
        if self._redis is not None:
            await self._redis.close()

    def _remember(self, entries: Mapping[bytes, Entry]) -> None:
        for key, entry in entries.items():
            self._memory.put(key, entry)

    def _decoded(
        self, keys: Sequence[bytes], values: Sequence[bytes | None], width: int
    ) -> dict[bytes, Entry]:
        entries = {}
        for key, value in zip(keys, values, strict=True):
            if value is None:
                continue
            entry = decode(key, value, width)
            if entry is None:
                self._metrics.redis_errors.labels("bad-value").inc()
            else:
                entries[key] = entry
        return entries
