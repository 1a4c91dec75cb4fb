"""Searches that wait together: whoever comes at the very end of a call is still served."""

import asyncio
import dataclasses
from pathlib import Path

import numpy as np
import pytest

from gpuctl_serving.index import coalesce
from gpuctl_serving.index.catalog import Catalog
from gpuctl_serving.index.coalesce import Coalescer
from gpuctl_serving.index.core import Core
from gpuctl_serving.index.queries import Answer, Asked, search
from gpuctl_serving.index.vectors import Vectors
from tests.index import direct
from tests.index.support import axis, index


def test_a_search_that_comes_as_the_last_one_ends_is_not_left_waiting(tmp_path: Path) -> None:
    core = direct.open_core(tmp_path)
    direct.add(core, [direct.item("a", [1, 0, 0]), direct.item("b", [0, 1, 0])])
    catalog = core.live.catalog
    assert catalog is not None
    row = np.array([[1, 0, 0]], np.float32)

    async def one_after_the_other() -> int:
        waiting, found = Coalescer(core), 0
        for _ in range(50):
            # The next one is asked in the very step in which the answer of the one before it arrives.
            async with asyncio.timeout(10):
                answer = await waiting.search(Asked("default", 1), catalog, row)
            found += answer.hits[0][0]["id"] == "a"
        return found

    async def beside_each_other() -> list[int]:
        return await asyncio.gather(*(one_after_the_other() for _ in range(3)))

    assert asyncio.run(one_after_the_other()) == 50
    assert asyncio.run(beside_each_other()) == [50, 50, 50]
    direct.close(core)


def test_a_search_that_cannot_be_answered_in_time_says_so(tmp_path: Path) -> None:
    with index(tmp_path, deadline_ms=200) as made:
        made.add({"id": "a", "vector": axis(0)})
        parts = made.service._parts
        assert parts is not None and parts.core.live.catalog is not None
        with parts.core.live.catalog._lock.writing():
            status, message = made.refused("search", {"vector": axis(0)})
            assert status == 504 and "200 ms" in message
        assert made.found(axis(0)) == ["a"]


def test_a_search_without_company_has_every_thread_and_those_beside_each_other_have_a_share_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    core = dataclasses.replace(direct.open_core(tmp_path), threads=4)
    direct.add(core, [direct.item("a", [1, 0, 0])])
    catalog, row, given = core.live.catalog, np.array([[1, 0, 0]], np.float32), list[int]()
    assert catalog is not None

    def seen(core: Core, catalog: Catalog, asked: Asked, rows: Vectors, threads: int) -> Answer:
        given.append(threads)
        return search(core, catalog, asked, rows, threads)

    monkeypatch.setattr(coalesce, "search", seen)

    async def alone() -> None:
        await Coalescer(core).search(Asked("default", 1), catalog, row)

    async def together() -> None:
        waiting = Coalescer(core)
        await asyncio.gather(*(waiting.search(Asked("default", k), catalog, row) for k in range(1, 9)))

    asyncio.run(alone())
    assert given == [4]
    given.clear()
    asyncio.run(together())
    # Three at once, on four threads.
    assert given == [1] * 8
    direct.close(core)
