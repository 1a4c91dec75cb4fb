"""Searches, single items and statistics."""

import asyncio
import time
from typing import Any

import numpy as np
from starlette.requests import Request
from starlette.responses import Response

from gpuctl_serving.index import facts, queries
from gpuctl_serving.index.ann.near import Effort
from gpuctl_serving.index.checks import check_get, check_item_name, check_lookup, check_search, check_values
from gpuctl_serving.index.coalesce import Coalescer
from gpuctl_serving.index.core import Core
from gpuctl_serving.index.embedder import Keys, OtherSpace
from gpuctl_serving.index.handover import Lost, Origin, forward
from gpuctl_serving.index.ids import ItemId, given, numbered, stored
from gpuctl_serving.index.messages import Elsewhere
from gpuctl_serving.index.metrics import IndexMetrics
from gpuctl_serving.index.reader import Document
from gpuctl_serving.index.requests import Get, Lookup, Search, Values
from gpuctl_serving.index.vectors import Vectors, mismatch
from gpuctl_serving.index.writing import embed_texts
from gpuctl_serving.kit.app import json_response, timings
from gpuctl_serving.kit.body import read_json
from gpuctl_serving.kit.errors import ServiceError, past_deadline, unavailable


class Reading:
    """The handlers of `search`, `items` and `stats`."""

    def __init__(self, core: Core, metrics: IndexMetrics, embedder_keys: Keys) -> None:
        self._core, self._metrics, self._keys = core, metrics, embedder_keys
        self._searches = Coalescer(core, metrics.search_batch.observe)

    async def search(self, request: Request) -> Response:
        """`POST search`."""
        body = await read_json(request, Search)
        rows = check_search(body, self._core.settings.max_items)
        if rows is None:
            began = time.perf_counter()
            try:
                rows = np.stack(await self._embed(body.wanted_texts))
            except OtherSpace:
                # The embedder has moved on to a model this index does not serve: its successor does.
                return await self._pass_on(request)
            timings(request)["embed"] = _ms(began)
        began = time.perf_counter()
        found = await self._search(body, rows)
        timings(request)["search"] = _ms(began)
        request.scope["gpuctl.device"] = found.device
        kind = facts.index_type(self._core.live.catalog)
        return json_response({"device": found.device, "indexType": kind, "results": found.hits})

    async def _embed(self, texts: list[str]) -> list[Vectors]:
        follower = self._core.worker.role == "follower"
        return await embed_texts(self._core, texts, self._keys, wait=not follower, side="query")

    async def _pass_on(self, request: Request) -> Response:
        worker, origin = self._core.worker, Origin.of(request)
        to = worker.elsewhere() if worker.role == "follower" else Elsewhere("")
        try:
            return await forward(request, to, origin, self._core.live.key, repeatable=True)
        except Lost:
            raise unavailable(
                "The embedder serves another model than this index, and no other index is known. "
                "Wait for the deploy to finish, or point GPUCTL_EMBEDDER_URL at the matching embedder."
            ) from None

    async def _search(self, body: Search, rows: Vectors) -> queries.Answer:
        catalog, dimension = self._core.live.catalog, self._core.live.dimension
        if dimension and rows.shape[1] != dimension:
            raise mismatch("The query's vector", rows.shape[1], dimension, self._core.live.key)
        if catalog is None:
            return queries.Answer("cpu", [[] for _ in rows])
        began = time.perf_counter()
        deadline_ms = self._core.settings.deadline_ms
        try:
            async with asyncio.timeout(deadline_ms / 1000):
                found = await self._searches.search(self._asked(body), catalog, rows)
        except TimeoutError:
            raise past_deadline(deadline_ms) from None
        self._metrics.search_seconds.labels(found.device).observe(time.perf_counter() - began)
        return found

    def _asked(self, body: Search) -> queries.Asked:
        target = None if body.nprobe else body.recall or self._core.settings.index_recall
        effort = Effort(body.nprobe, target)
        include = tuple(sorted(set(body.include)))
        return queries.Asked(body.namespace, body.k, include, body.encoding, effort, body.filter or {})

    async def item(self, request: Request) -> Response:
        """`GET items/{id}`."""
        namespace = request.query_params.get("namespace", "default")
        name = request.path_params["id"]
        check_item_name(namespace, name)
        found = await self._core.read(lambda: self._document(namespace, name))
        if found is None:
            raise ServiceError(
                404, "NotFound", f"There is no item {name!r} in namespace {namespace!r}.", param="id"
            )
        return json_response(
            {
                "namespace": namespace,
                "id": given(found.id),
                "text": found.text,
                "metadata": found.metadata,
                "sequence": found.sequence,
            }
        )

    async def get(self, request: Request) -> Response:
        """`POST items/get`: many items by their ids, with their vectors when asked for."""
        body = await read_json(request, Get)
        check_get(body, self._core.settings.max_items)
        found = await self._core.read(lambda: self._get(body))
        items = [{"id": one, **found[one]} for one in dict.fromkeys(body.ids) if one in found]
        missing = [one for one in dict.fromkeys(body.ids) if one not in found]
        return json_response({"namespace": body.namespace, "items": items, "missing": missing})

    async def lookup(self, request: Request) -> Response:
        """`POST items/lookup`: which items are there, with their metadata, by ids or by a filter."""
        body = await read_json(request, Lookup)
        check_lookup(body)
        found = await self._core.read(lambda: self._documents(body))
        return json_response({"items": {str(given(one.id)): {"metadata": one.metadata} for one in found}})

    async def values(self, request: Request) -> Response:
        """`POST items/values`: the different texts under a key, such as every `source` below a folder."""
        body = await read_json(request, Values)
        check_values(body)
        return json_response({"values": await self._core.read(lambda: self._texts(body))})

    async def stats(self, _: Request) -> Response:
        """`GET stats`."""
        return json_response(await self._core.read(lambda: facts.stats(self._core)))

    def _document(self, namespace: str, name: str) -> Document | None:
        with self._core.readers.snapshot() as snapshot:
            found = snapshot.document(namespace, name)
            number = numbered(name)
            # A path spells a number like a text: the text comes first.
            return found or (snapshot.document(namespace, number) if number else None)

    def _get(self, wanted: Get) -> dict[ItemId, dict[str, Any]]:
        with self._core.readers.snapshot() as snapshot:
            ns = snapshot.namespace(wanted.namespace)
            if ns is None:
                return {}
            items = snapshot.numbers(ns, [stored(one) for one in wanted.ids])
            bodies = queries.describe(self._core, snapshot, items, wanted.include, wanted.encoding)
            return {given(name): body for name, body in bodies.values()}

    def _texts(self, wanted: Values) -> list[str]:
        with self._core.readers.snapshot() as snapshot:
            ns = snapshot.namespace(wanted.namespace)
            return [] if ns is None else snapshot.texts(ns, wanted.key, wanted.prefix)

    def _documents(self, wanted: Lookup) -> list[Document]:
        with self._core.readers.snapshot() as snapshot:
            ns = snapshot.namespace(wanted.namespace)
            if ns is None:
                return []
            if wanted.ids is None:
                items = snapshot.matching(ns, wanted.filter or {})
            else:
                items = snapshot.numbers(ns, [stored(one) for one in wanted.ids])
            return sorted(snapshot.documents(items).values(), key=lambda one: one.id)


def _ms(began: float) -> float:
    return (time.perf_counter() - began) * 1000
