"""Searches that wait at the same time and ask the same are answered by one call of the index."""

import asyncio
import contextlib
import contextvars
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from gpuctl_serving.index.catalog import Catalog
from gpuctl_serving.index.core import MAX_READS, Core
from gpuctl_serving.index.queries import Answer, Asked, search
from gpuctl_serving.index.vectors import Vectors
from gpuctl_serving.kit.errors import overloaded

#: Queries of one call, at most.
_TOGETHER = 64
#: A request of so many has enough company in itself.
_ENOUGH = 16


@dataclass(frozen=True)
class _One:
    """One request's queries."""

    rows: Vectors
    outcome: "asyncio.Future[Answer]"


class Coalescer:
    """Nothing waits for company: what came while the threads were busy goes together when one is free."""

    def __init__(self, core: Core, seen: Callable[[int], None] = lambda queries: None) -> None:
        self._core, self._seen = core, seen
        #: One thread is left for the requests themselves, unless a search is alone.
        self._most = self._threads = max(1, core.threads - 1)
        self._waiting: dict[tuple[Asked, int], list[_One]] = {}
        self._running: set[asyncio.Task[None]] = set()
        #: Tasks that will look at what waits once more. Fewer than are running: one that looked for the last
        #: time is done only a step later, and whoever came in between would wait for nobody.
        self._serving = 0
        self._queries = 0
        #: Requests that are answered by themselves now.
        self._large = 0

    async def search(self, asked: Asked, catalog: Catalog, rows: Vectors) -> Answer:
        """See queries.search. 429 when too many wait."""
        if asked.wanted or len(rows) >= _ENOUGH:
            return await self._alone(asked, catalog, rows)
        if self._queries + len(rows) > MAX_READS:
            raise overloaded(f"{MAX_READS} searches are waiting already. Send fewer at once.", 1)
        one = _One(rows, asyncio.get_running_loop().create_future())
        self._waiting.setdefault((asked, rows.shape[1]), []).append(one)
        self._queries += len(rows)
        if self._serving < self._most:
            self._serving += 1
            # It works for many requests: its log lines carry no single one's id.
            task = asyncio.get_running_loop().create_task(self._serve(), context=contextvars.Context())
            self._running.add(task)
            task.add_done_callback(self._running.discard)
        return await one.outcome

    async def _alone(self, asked: Asked, catalog: Catalog, rows: Vectors) -> Answer:
        self._large += 1
        try:
            threads = max(1, self._core.threads // (self._large + self._serving))
            return await self._core.read(lambda: search(self._core, catalog, asked, rows, threads))
        finally:
            self._large -= 1

    async def _serve(self) -> None:
        try:
            await self._serve_all()
        finally:
            self._serving -= 1

    async def _serve_all(self) -> None:
        while self._waiting:
            (asked, _), together = self._take()
            here = [one for one in together if not one.outcome.done()]
            catalog = self._core.live.catalog
            if not here:
                continue
            if catalog is None:
                for one in here:
                    one.outcome.set_result(Answer("cpu", [[] for _ in one.rows]))
                continue
            try:
                found = await self._together(asked, catalog, here)
            except Exception as failure:
                for one in here:
                    # A client may have left meanwhile.
                    with contextlib.suppress(asyncio.InvalidStateError):
                        one.outcome.set_exception(failure)
                continue
            at = 0
            for one in here:
                with contextlib.suppress(asyncio.InvalidStateError):
                    one.outcome.set_result(Answer(found.device, found.hits[at : at + len(one.rows)]))
                at += len(one.rows)

    async def _together(self, asked: Asked, catalog: Catalog, here: list[_One]) -> Answer:
        rows = here[0].rows if len(here) == 1 else np.concatenate([one.rows for one in here])
        self._seen(len(rows))
        share = max(1, self._core.threads // (self._serving + self._large))
        alone = len(here) == 1 and not self._waiting and share == self._core.threads
        threads = share if alone else min(share, self._threads)
        return await self._core.read(lambda: search(self._core, catalog, asked, rows, threads))

    def _take(self) -> tuple[tuple[Asked, int], list[_One]]:
        """What waits longest, and what can go with it."""
        key = next(iter(self._waiting))
        waiting, taken, count = self._waiting.pop(key), 0, 0
        while taken < len(waiting) and (not taken or count + len(waiting[taken].rows) <= _TOGETHER):
            count += len(waiting[taken].rows)
            taken += 1
        if rest := waiting[taken:]:
            # Behind the others, so that one kind of search does not keep all others waiting.
            self._waiting[key] = rest
        self._queries -= count
        return key, waiting[:taken]
