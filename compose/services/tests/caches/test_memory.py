"""The first level: bounded by entries and by bytes, forgetting what is old or unused."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuctl_serving.caches.entry import Entry, decode, encode
from gpuctl_serving.caches.memory import Bounds, Eviction, MemoryCache


class Clock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def entry(number: float, width: int = 4) -> Entry:
    return Entry(np.full(width, number, np.float32), 3, truncated=False)


def cache(entries: int = 3, size: int = 10**6, ttl: float = 0) -> tuple[MemoryCache, list[Eviction], Clock]:
    evicted: list[Eviction] = []
    clock = Clock()
    return MemoryCache(Bounds(entries, size, ttl), evicted.append, clock), evicted, clock


def test_what_was_used_least_recently_makes_room() -> None:
    memory, evicted, _ = cache(entries=3)
    for name in (b"a", b"b", b"c"):
        memory.put(name, entry(1))
    assert memory.get(b"a") is not None
    memory.put(b"d", entry(2))
    assert [name for name in (b"a", b"b", b"c", b"d") if memory.get(name)] == [b"a", b"c", b"d"]
    assert evicted == ["entries"]


def test_bytes_are_a_limit_of_their_own_and_a_value_larger_than_all_of_it_is_not_kept() -> None:
    cost = entry(1, 1000).cost
    memory, evicted, _ = cache(entries=100, size=2 * cost + 10)
    for name in (b"a", b"b", b"c"):
        memory.put(name, entry(1, 1000))
    assert (len(memory), memory.bytes, evicted) == (2, 2 * cost, ["bytes"])
    memory.put(b"huge", entry(1, 100_000))
    assert len(memory) == 2


@pytest.mark.parametrize("width", [1, 384])
@pytest.mark.parametrize("from_redis", [False, True])
def test_the_bytes_that_are_counted_are_no_fewer_than_those_that_are_taken(
    width: int, from_redis: bool
) -> None:
    memory, _, _ = cache(entries=10**6, size=2 * 1024 * 1024, ttl=60)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for number in range(6000):
            key, kept = number.to_bytes(20, "little"), entry(1, width)
            if from_redis:
                decoded = decode(key, encode(key, kept), width)
                assert decoded is not None
                kept = decoded
            memory.put(key, kept)
        taken = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert taken <= memory.bytes <= 2 * 1024 * 1024


def test_a_new_value_of_a_key_replaces_the_old_one_and_its_size() -> None:
    memory, evicted, _ = cache()
    memory.put(b"a", entry(1, 1000))
    memory.put(b"a", entry(2, 10))
    found = memory.get(b"a")
    assert found is not None
    assert found.row.tolist() == [2] * 10
    assert (memory.bytes, evicted) == (entry(2, 10).cost, [])


def test_an_entry_past_its_time_is_gone_and_counted() -> None:
    memory, evicted, clock = cache(ttl=60)
    memory.put(b"a", entry(1))
    clock.now += 59.9
    assert memory.get(b"a") is not None
    clock.now += 0.2
    assert memory.get(b"a") is None
    assert (evicted, memory.bytes, len(memory)) == (["expired"], 0, 0)


def test_what_comes_from_redis_is_not_kept_for_another_whole_ttl() -> None:
    memory, _, clock = cache(ttl=10)
    key = b"k" * 20
    written = encode(key, entry(1), now=lambda: 1000.0)
    for wall, kept in ((1004.0, True), (1010.0, False), (990.0, True)):
        found = decode(key, written, 4, now=iter([wall]).__next__)
        assert found is not None
        memory.put(key, found)
        assert (memory.get(key) is not None) == kept
    memory.put(key, Entry(entry(1).row, 3, truncated=False, age=4))
    clock.now += 5.9
    assert memory.get(key) is not None
    clock.now += 0.2
    assert memory.get(key) is None


def test_without_a_ttl_nothing_grows_old() -> None:
    memory, _, clock = cache(ttl=0)
    memory.put(b"a", entry(1))
    clock.now += 10**9
    assert memory.get(b"a") is not None


def test_no_entries_or_no_bytes_keep_nothing() -> None:
    for bounds in (Bounds(0, 1000, 0), Bounds(10, 0, 0)):
        memory = MemoryCache(bounds, lambda _: None)
        memory.put(b"a", entry(1))
        assert (bounds.off, len(memory), memory.get(b"a")) == (True, 0, None)


@given(
    st.lists(st.tuples(st.integers(0, 8), st.integers(1, 400), st.booleans()), max_size=60),
    st.integers(1, 6),
    st.integers(500, 5000),
)
def test_whatever_happens_the_bounds_hold_and_the_bytes_add_up(
    steps: list[tuple[int, int, bool]], entries: int, size: int
) -> None:
    memory = MemoryCache(Bounds(entries, size, 0), lambda _: None)
    last: dict[bytes, int] = {}
    for name, width, write in steps:
        key = bytes([name])
        if write:
            memory.put(key, entry(width, width))
            last[key] = width
            # What is larger than everything is not kept, and what it replaces is gone.
            assert (key in memory._held) == (entry(width, width).cost <= size)
        elif (found := memory.get(key)) is not None:
            assert found.row.tolist() == [last[key]] * last[key]
        held = [found.cost for found, _ in memory._held.values()]
        assert sum(held) == memory.bytes <= size
        assert len(held) <= entries
