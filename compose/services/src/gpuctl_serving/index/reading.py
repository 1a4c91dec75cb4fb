"""Searches, single items and statistics."""

import time

import numpy as np
from starlette.requests import Request
from starlette.responses import Response

from gpuctl_serving.index import facts, queries
from gpuctl_serving.index.core import Core
from gpuctl_serving.index.embedder import Keys, OtherSpace
from gpuctl_serving.index.handover import Lost, Origin, forward
from gpuctl_serving.index.messages import Elsewhere
from gpuctl_serving.index.metrics import IndexMetrics
from gpuctl_serving.index.reader import Document
from gpuctl_serving.index.requests import (
    Lookup,
    Search,
    Values,
    check_item_name,
    check_lookup,
    check_search,
    check_values,
)
from gpuctl_serving.index.vectors import Vectors, mismatch
from gpuctl_serving.index.writing import embed_texts
from gpuctl_serving.kit.app import json_response, timings
from gpuctl_serving.kit.body import read_json
from gpuctl_serving.kit.errors import ServiceError, unavailable


class Reading:
    """The handlers of `search`, `items` and `stats`."""

    def __init__(self, core: Core, metrics: IndexMetrics, embedder_keys: Keys, device: str) -> None:
        self._core, self._metrics, self._keys, self._device = core, metrics, embedder_keys, device

    async def search(self, request: Request) -> Response:
        """`POST search`."""
        body = await read_json(request, Search)
        rows = check_search(body, self._core.settings.max_items)
        if rows is None:
            began = time.perf_counter()
            try:
                rows = np.stack(await self._embed(body.text or ""))
            except OtherSpace:
                # The embedder has moved on to a model this index does not serve: its successor does.
                return await self._pass_on(request)
            timings(request)["embed"] = _ms(began)
        began = time.perf_counter()
        results = await self._search(body, rows)
        timings(request)["search"] = _ms(began)
        return json_response({"device": self._device, "indexType": "Flat", "results": results})

    async def _embed(self, text: str) -> list[Vectors]:
        follower = self._core.worker.role == "follower"
        return await embed_texts(self._core, [text], self._keys, wait=not follower)

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

    async def _search(self, body: Search, rows: Vectors) -> list[list[queries.Hit]]:
        catalog, dimension = self._core.live.catalog, self._core.live.dimension
        if dimension and rows.shape[1] != dimension:
            raise mismatch("The query's vector", rows.shape[1], dimension, self._core.live.key)
        if catalog is None:
            return [[] for _ in rows]
        with self._metrics.search_seconds.labels(self._device).time():
            return await self._core.read(
                lambda: queries.search(self._core, catalog, body.namespace, rows, body.k, body.filter or {})
            )

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
                "id": found.id,
                "text": found.text,
                "metadata": found.metadata,
                "sequence": found.sequence,
            }
        )

    async def lookup(self, request: Request) -> Response:
        """`POST items/lookup`: which items are there, with their metadata, by ids or by a filter."""
        body = await read_json(request, Lookup)
        check_lookup(body)
        found = await self._core.read(lambda: self._documents(body))
        return json_response({"items": {one.id: {"metadata": one.metadata} for one in found}})

    async def values(self, request: Request) -> Response:
        """`POST items/values`: the different texts under a key, such as every `source` below a folder."""
        body = await read_json(request, Values)
        check_values(body)
        return json_response({"values": await self._core.read(lambda: self._texts(body))})

    async def stats(self, _: Request) -> Response:
        """`GET stats`."""
        return json_response(await self._core.read(lambda: facts.stats(self._core, self._device)))

    def _document(self, namespace: str, name: str) -> Document | None:
        with self._core.readers.snapshot() as snapshot:
            return snapshot.document(namespace, name)

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
                items = snapshot.numbers(ns, wanted.ids)
            return sorted(snapshot.documents(items).values(), key=lambda one: one.id)


def _ms(began: float) -> float:
    return (time.perf_counter() - began) * 1000
