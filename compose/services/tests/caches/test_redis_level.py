"""The second level against a server that misbehaves: nobody waits, nobody gets a wrong value."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

import pytest
from prometheus_client import CollectorRegistry

from gpuctl_serving.caches.breaker import Breaker, Patience
from gpuctl_serving.caches.metrics import CacheMetrics
from gpuctl_serving.caches.redis_level import RedisLevel
from gpuctl_serving.caches.settings import RedisPlace
from gpuctl_serving.kit.logs import request_id
from tests.caches.resp_stub import Mood, RespStub

KEYS = [bytes([n]) * 20 for n in range(4)]
#: As production, but back soon.
QUICK = Patience(late=4, first_pause=0.02, longest_pause=0.1)


class World:
    """A stub, the level that uses it, and what was counted."""

    def __init__(self, stub: RespStub, url: str, patience: Patience) -> None:
        self.stub = stub
        self.registry = CollectorRegistry()
        place = RedisPlace(url, None, ttl_ms=60_000, patience=0.03)
        self.level = RedisLevel(place, CacheMetrics(self.registry), patience)

    def errors(self, kind: str) -> float:
        return self.registry.get_sample_value("gpuctl_cache_redis_errors_total", {"kind": kind}) or 0

    async def until_connected(self) -> None:
        async with asyncio.timeout(5):
            while not self.registry.get_sample_value("gpuctl_cache_redis_up"):
                await self.level.get(KEYS[:1])
                await asyncio.sleep(0.005)

    async def eventually(self, true: Callable[[], bool]) -> None:
        async with asyncio.timeout(5):
            while True:
                if true():
                    return
                await asyncio.sleep(0.005)

    async def until_found(self, key: bytes, value: bytes) -> None:
        async with asyncio.timeout(5):
            while True:
                if await self.level.get([key]) == [value]:
                    return
                await asyncio.sleep(0.01)


def drive(work: Callable[[World], Awaitable[None]], patience: Patience = QUICK) -> None:
    async def run() -> None:
        stub = RespStub()
        world = World(stub, await stub.start(), patience)
        try:
            await work(world)
        finally:
            await world.level.close()
            await stub.stop()

    asyncio.run(run())


def test_what_was_put_is_found_with_its_time_to_live_and_the_rest_is_none() -> None:
    async def work(world: World) -> None:
        await world.until_connected()
        world.level.put([(KEYS[0], b"zero"), (KEYS[2], b"two")])
        await world.eventually(lambda: len(world.stub.held) == 2)
        assert await world.level.get(KEYS) == [b"zero", None, b"two", None]
        assert set(world.stub.expiry.values()) == {60_000}

    drive(work)


def test_nobody_waits_for_a_server_that_is_not_there_and_it_is_used_once_it_is() -> None:
    async def work(world: World) -> None:
        started = time.perf_counter()
        assert await world.level.get(KEYS) == [None] * 4
        assert time.perf_counter() - started < 0.02
        await world.until_connected()

    drive(work)


def test_lookups_of_many_requests_travel_together() -> None:
    async def work(world: World) -> None:
        await world.until_connected()
        world.level.put([(key, key) for key in KEYS])
        await world.eventually(lambda: len(world.stub.held) == 4)
        world.stub.commands.clear()
        answers = await asyncio.gather(*(world.level.get([key]) for key in KEYS * 10))
        assert answers == [[key] for key in KEYS * 10]
        assert len(world.stub.commands) <= 2

    drive(work)


@pytest.mark.parametrize("mood", ["silent", "cut", "garbage", "torn-bulk", "huge-bulk", "error", "short"])
def test_trouble_is_a_miss_within_milliseconds_counted_and_over_when_the_server_is_well(mood: Mood) -> None:
    async def work(world: World) -> None:
        await world.until_connected()
        world.level.put([(KEYS[0], b"zero")])
        await world.eventually(lambda: len(world.stub.held) == 1)
        world.stub.mood = mood
        waits = []
        for _ in range(40):
            started = time.perf_counter()
            assert await world.level.get(KEYS[:1]) == [None]
            waits.append(time.perf_counter() - started)
            await asyncio.sleep(0.002)
        # The limit of a wait is 30 ms here, and after a few of them nobody waits at all.
        assert sorted(waits)[20] < 0.01
        await world.eventually(lambda: world.errors("connection") >= 1)
        world.stub.mood = "well"
        await world.until_found(KEYS[0], b"zero")

    drive(work)


def test_a_server_that_answers_too_late_is_left_alone_and_its_late_answers_reach_nobody_else() -> None:
    async def work(world: World) -> None:
        await world.until_connected()
        world.level.put([(KEYS[0], b"zero"), (KEYS[1], b"one")])
        await world.eventually(lambda: len(world.stub.held) == 2)
        world.stub.mood = "stubborn"
        for _ in range(8):
            assert (await world.level.get([KEYS[0]]))[0] is None
        assert 4 <= world.errors("late") < 8
        world.stub.mood = "well"
        await world.until_found(KEYS[1], b"one")

    drive(work)


def test_a_password_is_never_logged(capfd: pytest.CaptureFixture[str]) -> None:
    async def work(world: World) -> None:
        place = RedisPlace("redis://:hunter2secret@127.0.0.1:1/0", "hunter2secret", 0, 0.01)
        level = RedisLevel(place, CacheMetrics(CollectorRegistry()), QUICK)
        await level.get(KEYS)
        await asyncio.sleep(0.1)
        await level.close()

    drive(work)
    out, err = capfd.readouterr()
    assert "hunter2secret" not in out + err


def test_its_log_lines_do_not_carry_the_id_of_the_request_that_came_first(
    caplog: pytest.LogCaptureFixture,
) -> None:
    seen: list[str] = []

    async def work(world: World) -> None:
        before = request_id.set("the-first")
        await world.until_connected()
        request_id.reset(before)

    class Recorder(logging.Handler):
        def emit(self, _: logging.LogRecord) -> None:
            seen.append(request_id.get())

    recorder, logger = Recorder(), logging.getLogger("gpuctl_serving.caches.redis_level")
    caplog.set_level(logging.INFO)
    logger.addHandler(recorder)
    try:
        drive(work)
    finally:
        logger.removeHandler(recorder)
    assert seen == [""]


def test_writes_that_nobody_takes_do_not_pile_up() -> None:
    async def work(world: World) -> None:
        await world.until_connected()
        world.stub.mood = "silent"
        for _ in range(30):
            world.level.put([(key, b"v") for key in KEYS] * 100)
        assert len(world.level._writes) <= 8192
        assert world.errors("dropped-write") == 30 * 400 - 8192

    drive(work)


def test_the_breaker_opens_after_late_answers_in_a_row_and_for_longer_each_time() -> None:
    breaker = Breaker(Patience(late=3, first_pause=1, longest_pause=3))
    for _ in range(2):
        breaker.late(10)
    breaker.good()
    for _ in range(2):
        breaker.late(10)
    assert breaker.closed(10)
    breaker.late(10)
    assert (breaker.closed(10.9), breaker.closed(11)) == (False, True)
    breaker.late(11)
    assert (breaker.closed(12.9), breaker.closed(13)) == (False, True)
    breaker.late(13)
    assert (breaker.closed(15.9), breaker.closed(16)) == (False, True)
    breaker.good()
    assert breaker.broken(20) == 1
