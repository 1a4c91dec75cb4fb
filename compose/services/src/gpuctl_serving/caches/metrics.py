"""Metrics of the caches, present at zero from the start."""

from collections.abc import Callable
from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Gauge

from gpuctl_serving.caches.memory import EVICTIONS

Level = Literal["memory", "redis"]
LEVELS: tuple[Level, ...] = ("memory", "redis")
#: `late`: no answer within GPUCTL_REDIS_TIMEOUT_MS; `connection`: refused, cut, silent or speaking another
#: language; `bad-value`: what was there is torn or somebody else's; `dropped-write`: too many were waiting.
RedisError = Literal["late", "connection", "bad-value", "dropped-write"]
REDIS_ERRORS: tuple[RedisError, ...] = ("late", "connection", "bad-value", "dropped-write")


class CacheMetrics:
    """Registered on a service's own registry. A text counts once: as a hit of one level, or as a miss."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.hits = Counter(
            "gpuctl_cache_hits", "Texts or pairs answered without inference.", ("level",), registry=registry
        )
        self.misses = Counter("gpuctl_cache_misses", "Texts or pairs that no level knew.", registry=registry)
        self.bypassed = Counter(
            "gpuctl_cache_bypassed", "Texts or pairs that were not to be looked up.", registry=registry
        )
        self.evictions = Counter(
            "gpuctl_cache_evictions", "Entries dropped from memory.", ("reason",), registry=registry
        )
        self.redis_errors = Counter(
            "gpuctl_cache_redis_errors",
            "Times the cache in Redis could not help.",
            ("kind",),
            registry=registry,
        )
        self.redis_up = Gauge(
            "gpuctl_cache_redis_up", "1 while Redis is connected and asked.", registry=registry
        )
        self._entries = Gauge("gpuctl_cache_entries", "Entries in memory.", registry=registry)
        self._bytes = Gauge("gpuctl_cache_bytes", "Bytes of the entries in memory.", registry=registry)
        ratio = Gauge(
            "gpuctl_cache_hit_ratio",
            "Hits by lookups since the start; 0 before the first.",
            registry=registry,
        )
        self._looked_up = self._found = 0
        ratio.set_function(lambda: self._found / self._looked_up if self._looked_up else 0.0)
        for level in LEVELS:
            self.hits.labels(level)
        for reason in EVICTIONS:
            self.evictions.labels(reason)
        for kind in REDIS_ERRORS:
            self.redis_errors.labels(kind)

    def looked_up(self, memory: int, redis: int, missed: int) -> None:
        """Counts the lookups of one request."""
        self.hits.labels("memory").inc(memory)
        self.hits.labels("redis").inc(redis)
        self.misses.inc(missed)
        self._found += memory + redis
        self._looked_up += memory + redis + missed

    def watch(self, entries: Callable[[], int], size: Callable[[], int]) -> None:
        """Says where the sizes are read."""
        self._entries.set_function(entries)
        self._bytes.set_function(size)
