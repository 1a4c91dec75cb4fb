"""Adds and deletes: decode, embed what has only a text, commit here or pass on to the writer."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence

from starlette.requests import Request
from starlette.responses import Response

from gpuctl_serving.index.checks import check_add, check_delete, check_rename
from gpuctl_serving.index.core import Core
from gpuctl_serving.index.embedder import Keys, OtherSpace, Side, embed
from gpuctl_serving.index.handover import PATIENCE, Lost, Origin, forward, look_again
from gpuctl_serving.index.ids import stored
from gpuctl_serving.index.live import Work
from gpuctl_serving.index.messages import Elsewhere, Write
from gpuctl_serving.index.metrics import IndexMetrics
from gpuctl_serving.index.requests import Add, Delete, Rename
from gpuctl_serving.index.store import NewItem, Store
from gpuctl_serving.index.vectors import Vectors, mismatch
from gpuctl_serving.kit.app import json_response
from gpuctl_serving.kit.body import read_json
from gpuctl_serving.kit.errors import ServiceError, invalid
from gpuctl_serving.kit.logs import Log

log = Log(__name__)

#: Adds of more items than this are decoded in a thread, so that searches are answered meanwhile.
_FEW = 16
#: How long an answer in another model's space is taken for a switch that is not over yet.
SWITCH_SECONDS = 3.0


class Writing:
    """The handlers of `add` and `delete`."""

    def __init__(self, core: Core, metrics: IndexMetrics, embedder_keys: Keys) -> None:
        self._core, self._metrics, self._keys = core, metrics, embedder_keys

    async def add(self, request: Request) -> Response:
        """`POST add`."""
        body = await read_json(request, Add)
        most = self._core.settings.max_items
        if len(body.items) > _FEW:
            given = await self._core.read(lambda: check_add(body, most))
        else:
            given = check_add(body, most)
        origin = Origin.of(request)
        return await self._write(
            request, origin, lambda: self._prepare(body, given, origin), repeatable=body.upsert
        )

    async def delete(self, request: Request) -> Response:
        """`POST delete`."""
        body = await read_json(request, Delete)
        check_delete(body, self._core.settings.max_items)

        ids = [stored(one) for one in body.ids]

        def work(store: Store) -> dict[str, int]:
            return {"deleted": store.delete(body.namespace, ids), "sequence": store.sequence}

        async def prepare() -> Work:
            return work

        return await self._write(request, Origin.of(request), prepare, repeatable=True)

    async def rename(self, request: Request) -> Response:
        """`POST namespaces/rename`: one name, and what has it now under another, in one step."""
        body = await read_json(request, Rename)
        check_rename(body)

        def work(store: Store) -> dict[str, int]:
            return {"items": store.rename(body.source, body.target, body.keep), "sequence": store.sequence}

        async def prepare() -> Work:
            return work

        return await self._write(request, Origin.of(request), prepare, repeatable=False)

    async def _write(
        self,
        request: Request,
        origin: Origin,
        prepare: Callable[[], Awaitable[Work]],
        *,
        repeatable: bool,
    ) -> Response:
        """Commits here or passes on. A write that may be done twice survives the writer it was sent to."""

        async def pass_on(to: Elsewhere) -> Response:
            return await forward(request, to, origin, self._core.live.key, repeatable=repeatable)

        since, work = time.monotonic(), None
        while True:
            try:
                # A follower passes the request on as it came: the writer embeds for its own generation.
                if self._core.worker.role == "follower" and not origin.hops:
                    return await pass_on(self._core.worker.elsewhere())
            except Lost:
                pass
            work = work or await prepare()
            write = Write(work, time.monotonic() + PATIENCE / 2, forwarded=origin.hops > 0)
            result = await self._core.write(write)
            if not isinstance(result, Elsewhere):
                return self._done(result)
            try:
                return await pass_on(result)
            except Lost:
                await look_again(since)

    def _done(self, result: dict[str, int]) -> Response:
        for op in ("added", "updated", "deleted"):
            self._metrics.items_written.labels(op).inc(result.get(op, 0))
        return json_response(result)

    async def _prepare(self, body: Add, given: Sequence[Vectors | None], origin: Origin) -> Work:
        """The change as the writer's thread will run it; nothing slow is left to do there."""
        foreign = origin.generation if origin.generation != self._core.live.key else ""
        own: list[Vectors | None] = [None] * len(given) if foreign else list(given)
        self._same_dimension(own)
        await self._embed_missing(body, own, lenient=bool(foreign))
        size = next((len(vector) for vector in own if vector is not None), 0)
        key = self._core.live.key or f"dim:{size}"
        items = []
        for item, mine, theirs in zip(body.items, own, given, strict=True):
            vectors = {key: mine} if mine is not None else {}
            if foreign and theirs is not None:
                vectors[foreign] = theirs
            items.append(NewItem(stored(item.id), item.text, item.metadata, vectors))

        def work(store: Store) -> dict[str, int]:
            if foreign and store.generation(foreign) is None:
                for item in items:
                    item.vectors.pop(foreign, None)
            added, updated = store.add(body.namespace, items, upsert=body.upsert)
            return {"added": added, "updated": updated, "sequence": store.sequence}

        return work

    def _same_dimension(self, vectors: Sequence[Vectors | None]) -> None:
        want = self._core.live.dimension
        for at, vector in enumerate(vectors):
            if vector is None:
                continue
            want = want or len(vector)
            if len(vector) != want:
                raise mismatch(f"items[{at}]", len(vector), want, self._core.live.key or f"dim:{want}")

    async def _embed_missing(self, body: Add, vectors: list[Vectors | None], *, lenient: bool) -> None:
        """Fills in the vectors of items that came with a text only."""
        todo = [
            at for at, vector in enumerate(vectors) if vector is None and (body.items[at].text or "").strip()
        ]
        if not todo:
            return
        try:
            texts = [body.items[at].text or "" for at in todo]
            for at, vector in zip(
                todo, await embed_texts(self._core, texts, self._keys, wait=not lenient), strict=True
            ):
                vectors[at] = vector
        except ServiceError as refused:
            # A write passed on during a switch must not fail for want of the new embedder: it is stored, and
            # counted as missing in the new generation until `ensure` embeds it.
            if not lenient:
                raise
            log.warning("embedded-later", reason=refused.message, items=len(todo))
        self._same_dimension(vectors)


async def embed_texts(
    core: Core, texts: Sequence[str], keys: Keys, *, wait: bool = True, side: Side = "passage"
) -> list[Vectors]:
    """Vectors from the configured embedder; waits out a switch of it. 422 when there is none."""
    address = core.settings.embedder_url
    if not address:
        raise invalid(
            "This index has no embedder to make a vector from a text (GPUCTL_EMBEDDER_URL is not set). "
            "Send `vector` or `vectorBase64`, or set it to the embedder's address."
        )
    live, seconds, since = core.live, core.settings.deadline_ms / 1000, time.monotonic()
    while True:
        try:
            return await embed(address, texts, (live.key, live.dimension), seconds, keys, side=side)
        except OtherSpace:
            # At a switch the index moves a moment before the embedder: the next answer may be right.
            if not wait or time.monotonic() - since > SWITCH_SECONDS:
                raise
            await asyncio.sleep(0.02)
