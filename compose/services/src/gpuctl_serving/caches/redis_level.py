"""The second level: a Redis that instances share. Whatever it does, a request waits milliseconds at most.

One task owns the one connection. Requests leave their keys with it and wait with a limit; it sends what all
of them want as one MGET, and writes between reads. A connection in trouble is dropped and made anew behind
the requests' backs; meanwhile nobody waits.
"""

import asyncio
import contextlib
import contextvars
import time
from collections import deque
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from typing import Any

import redis.asyncio as redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from gpuctl_serving.caches.breaker import Breaker, Patience
from gpuctl_serving.caches.metrics import CacheMetrics
from gpuctl_serving.caches.settings import RedisPlace
from gpuctl_serving.kit.logs import Log

_PREFIX = b"gpuctl:answer:"
#: Keys of one MGET and values of one round of writes: a round must not keep the connection for long.
_ROUND = 512
_WRITE_ROUND = 64
#: Values that may wait to be written; more are dropped, since the next request can write them again.
_MOST_WRITES = 8192
#: An answer that takes longer than this means that the connection is sick. Seconds.
_SICK_AFTER = 0.25
_CONNECT_LIMIT = 1.0

log = Log(__name__)


@dataclass(frozen=True, slots=True)
class _Lookup:
    keys: Sequence[bytes]
    answer: "asyncio.Future[list[bytes | None]]"


class RedisLevel:
    """Used on one event loop; connects when first asked."""

    def __init__(self, place: RedisPlace, metrics: CacheMetrics, patience: Patience | None = None) -> None:
        self._place = place
        self._metrics = metrics
        self._breaker = Breaker(patience or Patience())
        self._lookups: deque[_Lookup] = deque()
        self._writes: deque[tuple[bytes, bytes]] = deque()
        self._work = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._connected = False

    async def get(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """The value of each key; None for what is not there, and for everything while Redis is in trouble."""
        if not self._available():
            return [None] * len(keys)
        lookup = _Lookup(keys, asyncio.get_running_loop().create_future())
        self._lookups.append(lookup)
        self._work.set()
        try:
            async with asyncio.timeout(self._place.patience):
                values = await lookup.answer
        except TimeoutError:
            self._count("late")
            self._breaker.late(time.monotonic())
            return [None] * len(keys)
        return values

    def put(self, values: Sequence[tuple[bytes, bytes]]) -> None:
        """Has values written later, or never; does not wait."""
        if not self._available():
            return
        room = _MOST_WRITES - len(self._writes)
        if room < len(values):
            self._metrics.redis_errors.labels("dropped-write").inc(len(values) - room)
        self._writes.extend(values[:room])
        self._work.set()

    async def close(self) -> None:
        """Ends the task and its connection."""
        task, self._task = self._task, None
        if task is not None and not task.get_loop().is_closed():
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError, RuntimeError):
                await task

    def wake(self) -> None:
        """Connects, unless it has; does not wait."""
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(
                # Its log lines are nobody's: not those of the request that came first.
                self._serve(),
                name="redis-cache",
                context=contextvars.Context(),
            )

    def _available(self) -> bool:
        self.wake()
        return self._connected and self._breaker.closed(time.monotonic())

    async def _serve(self) -> None:
        while True:
            try:
                await self._connection()
            except Exception as trouble:  # A server that is no Redis makes the client raise anything.
                self._lost(trouble)
            await asyncio.sleep(self._breaker.broken(time.monotonic()))

    async def _connection(self) -> None:
        client = _client(self._place)
        try:
            async with asyncio.timeout(_CONNECT_LIMIT):
                await client.ping()
            self._connected = True
            self._metrics.redis_up.set(1)
            log.info("redis-connected")
            while True:
                await self._round(client)
        finally:
            self._connected = False
            self._metrics.redis_up.set(0)
            self._give_up()
            with contextlib.suppress(Exception):
                async with asyncio.timeout(_SICK_AFTER):
                    await client.aclose()

    async def _round(self, client: Any) -> None:
        """Reads what is asked for, then writes a little of what waits."""
        if not self._lookups and not self._writes:
            self._work.clear()
            await self._work.wait()
        if wanted := self._take_lookups():
            keys = [_PREFIX + key for lookup in wanted for key in lookup.keys]
            try:
                values = await _soon(client.mget(keys))
                if len(values) != len(keys) or not all(v is None or isinstance(v, bytes) for v in values):
                    raise ValueError("MGET was answered with something else")
            except BaseException:
                self._answer_nothing(wanted)
                raise
            self._hand_out(wanted, values)
        if self._writes:
            await self._write(client)

    def _hand_out(self, lookups: Sequence[_Lookup], values: Sequence[bytes | None]) -> None:
        at, in_time = 0, False
        for lookup in lookups:
            if not lookup.answer.done():
                in_time = True
                lookup.answer.set_result([*values[at : at + len(lookup.keys)]])
            at += len(lookup.keys)
        if in_time:
            self._breaker.good()

    def _take_lookups(self) -> list[_Lookup]:
        taken, count = list[_Lookup](), 0
        while self._lookups and count < _ROUND:
            lookup = self._lookups.popleft()
            if lookup.answer.done():
                continue  # Its request has given up.
            taken.append(lookup)
            count += len(lookup.keys)
        return taken

    async def _write(self, client: Any) -> None:
        pipeline = client.pipeline(transaction=False)
        for _ in range(min(_WRITE_ROUND, len(self._writes))):
            key, value = self._writes.popleft()
            pipeline.set(_PREFIX + key, value, px=self._place.ttl_ms or None)
        await _soon(pipeline.execute())

    def _give_up(self) -> None:
        self._writes.clear()
        self._answer_nothing(self._lookups)
        self._lookups.clear()

    def _answer_nothing(self, lookups: Sequence[_Lookup] | deque[_Lookup]) -> None:
        for lookup in lookups:
            if not lookup.answer.done():
                lookup.answer.set_result([None] * len(lookup.keys))

    def _lost(self, trouble: Exception) -> None:
        self._count("connection")
        # The URL may hold a password, and some messages repeat what was sent: only the kind is logged.
        log.warning("redis-lost", kind=type(trouble).__name__)

    def _count(self, kind: str) -> None:
        self._metrics.redis_errors.labels(kind).inc()


async def _soon(answer: Awaitable[Any]) -> Any:
    async with asyncio.timeout(_SICK_AFTER):
        return await answer


def _client(place: RedisPlace) -> Any:
    """One connection that never tries again by itself: trouble is counted and dealt with here."""
    given: dict[str, Any] = {} if place.password is None else {"password": place.password}
    return redis.Redis.from_url(
        place.url,
        single_connection_client=True,
        socket_timeout=None,
        socket_connect_timeout=_CONNECT_LIMIT,
        retry=Retry(NoBackoff(), 0),
        # RESP2 and no introductions: understood by every version and by what is like Redis.
        protocol=2,
        driver_info=None,
        **given,
    )
