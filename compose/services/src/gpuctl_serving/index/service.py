"""The index as its runner sees it: settings in, an app and a lifecycle out."""

import os
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

import gpuctl_serving
from gpuctl_serving.index import facts
from gpuctl_serving.index.ann.replica.told import Told
from gpuctl_serving.index.core import Core
from gpuctl_serving.index.embedder import Keys, no_keys
from gpuctl_serving.index.lock import Holder
from gpuctl_serving.index.maintenance import Maintenance
from gpuctl_serving.index.maintenance_routes import MaintenanceRoutes
from gpuctl_serving.index.metrics import IndexMetrics
from gpuctl_serving.index.private_routes import PrivateIndex
from gpuctl_serving.index.reading import Reading
from gpuctl_serving.index.settings import IndexSettings, check, load_settings
from gpuctl_serving.index.writing import Writing
from gpuctl_serving.kit.app import Endpoint, create_base_app, public_paths
from gpuctl_serving.kit.auth import ApiKeys
from gpuctl_serving.kit.errors import unavailable
from gpuctl_serving.kit.instance import LaunchedAs
from gpuctl_serving.kit.service import ServiceBase
from gpuctl_serving.kit.settings import Notes

BASE = "/api/v1/vector-store"
Method = Callable[[Request], Awaitable[Response]]


class _Parts:
    """The handlers, made once the core is loaded."""

    def __init__(self, core: Core, metrics: IndexMetrics, embedder_keys: Keys) -> None:
        self.core = core
        self.writing = Writing(core, metrics, embedder_keys)
        self.reading = Reading(core, metrics, embedder_keys)
        self.private = PrivateIndex(core)
        assert core.maintenance is not None  # noqa: S101  made by `load_parts`
        self.upkeep = MaintenanceRoutes(core, core.maintenance)


class IndexService(ServiceBase):
    """The vector index."""

    name = "index"

    def __init__(self, settings: IndexSettings, notes: Notes | None = None) -> None:
        super().__init__(settings, notes)
        self._index = settings
        self._parts: _Parts | None = None
        endpoints = self._endpoints()
        self.metrics = IndexMetrics(
            public_paths([e for e in endpoints if not e.path.startswith("/private/")]), settings.slo_ms
        )
        self._app = create_base_app(self, endpoints, self.metrics)

    def _endpoints(self) -> list[Endpoint]:
        def route(method: str, path: str, pick: Callable[[_Parts], Method]) -> Endpoint:
            async def answer(request: Request) -> Response:
                if self._parts is None:
                    raise unavailable(f"The index is {self.state}.")
                return await pick(self._parts)(request)

            return Endpoint(method, path, answer)

        return [
            route("POST", f"{BASE}/add", lambda parts: parts.writing.add),
            route("POST", f"{BASE}/delete", lambda parts: parts.writing.delete),
            route("POST", f"{BASE}/search", lambda parts: parts.reading.search),
            route("POST", f"{BASE}/items/get", lambda parts: parts.reading.get),
            route("POST", f"{BASE}/items/lookup", lambda parts: parts.reading.lookup),
            route("POST", f"{BASE}/items/values", lambda parts: parts.reading.values),
            route("GET", f"{BASE}/items/{{id:path}}", lambda parts: parts.reading.item),
            route("GET", f"{BASE}/stats", lambda parts: parts.reading.stats),
            route("POST", f"{BASE}/namespaces/rename", lambda parts: parts.writing.rename),
            route("POST", f"{BASE}/namespaces/remove", lambda parts: parts.upkeep.remove),
            route("POST", f"{BASE}/snapshot", lambda parts: parts.upkeep.snapshot),
            route("POST", f"{BASE}/compact", lambda parts: parts.upkeep.compact),
            route("POST", f"{BASE}/rebuild", lambda parts: parts.upkeep.rebuild),
            route("POST", f"{BASE}/verify", lambda parts: parts.upkeep.verify),
            route("GET", f"{BASE}/backup", lambda parts: parts.upkeep.backup_stream),
            route("GET", f"{BASE}/jobs", lambda parts: parts.upkeep.jobs),
            route("GET", f"{BASE}/jobs/{{job}}", lambda parts: parts.upkeep.job),
            route("POST", "/private/backup", lambda parts: parts.upkeep.backup),
            route("GET", "/private/index", lambda parts: parts.private.index),
            route("POST", "/private/generations/ensure", lambda parts: parts.private.ensure),
            route("POST", "/private/generations/prune", lambda parts: parts.private.prune),
            route("POST", "/private/writer/hold", lambda parts: parts.private.hold),
            route("POST", "/private/writer/take", lambda parts: parts.private.take),
        ]

    @property
    def app(self) -> ASGIApp:
        """See HostedService."""
        return self._app

    @property
    def device(self) -> str | None:
        """The CPU, proven by the canary at load; the GPU's while its copy searches."""
        return self._parts.core.device if self._parts else None

    @property
    def device_reason(self) -> str | None:
        """See ServiceBase."""
        return self._parts.core.told.reason if self._parts else None

    @property
    def model(self) -> str | None:
        """The embedding space the vectors belong to."""
        return self._parts.core.live.key or None if self._parts else None

    @property
    def degraded(self) -> str | None:
        """What keeps a GPU from searching that should; not that there is too little to copy."""
        return self._wrong(self._told)

    def _wrong(self, told: Told | None) -> str | None:
        if told is None or told.reason is None:
            return None
        wish = self.settings.device
        return f"GPUCTL_DEVICE={wish}, but {told.detail}" if wish != "auto" else told.detail

    def health(self) -> dict[str, Any]:
        """See ServiceBase."""
        return {**super().health(), **self._standing()}

    @property
    def _told(self) -> Told | None:
        return self._parts.core.told if self._parts else None

    def _standing(self) -> dict[str, Any]:
        """What one body says of device and copy: all of it of the same moment."""
        told = self._told
        wrong = self.unmet or self._wrong(told)
        well = "degraded" if wrong else "healthy"
        return {
            "status": well if self.state == "ready" else self.state,
            "device": told.searcher if told else None,
            "device_reason": told.reason if told else None,
            "reason": self.reason if self.state == "failed" else wrong,
            "replica": told.body() if told else None,
        }

    def load_parts(self) -> None:
        """Opens the database and makes the copy in memory; proves the engine with the canary."""
        check(self._index)
        core = Core.open(self._index, self._holder(), lambda: self.instance.traffic == "open")
        proven = facts.proof(core)["canary"]
        if not proven["ok"]:
            core.promoter.stop()
            if core.replica is not None:
                core.replica.stop()
            core.worker.stop()
            raise RuntimeError(f"the search engine gives wrong answers: {proven['detail']}")
        core.maintenance = Maintenance(core)
        core.maintenance.start()
        self.metrics.watch(core)
        self._parts = _Parts(core, self.metrics, self._embedder_keys())

    def _holder(self) -> Holder:
        settings = self.settings
        if settings.instance_file is not None:
            launched = LaunchedAs.read(settings.instance_file)
            return Holder(launched.id, os.getpid(), f"unix:{launched.private}")
        address = f"http://{settings.host}:{settings.port}" if settings.port else ""
        return Holder(f"plain-{os.getpid()}", os.getpid(), address)

    def _embedder_keys(self) -> Keys:
        """The services of one environment share their keys; they are read again when they change."""
        file = self.settings.api_keys_file
        if file is None or not self._index.embedder_url.startswith("http"):
            return no_keys
        ring = ApiKeys(file)
        return lambda: ring.keys

    def info(self) -> dict[str, Any]:
        """The body of `/info`."""
        live = self._parts.core.live if self._parts else None
        return {
            "service": self.name,
            "version": gpuctl_serving.__version__,
            "state": self.state,
            **self._standing(),
            "engine": "faiss",
            "indexType": facts.index_type(live.catalog if live else None),
            "metric": "cosine",
            "dimension": live.dimension if live else self._index.known_dimension,
            "generation": live.key if live else self._index.index_generation,
            "writer": self._parts.core.is_writer if self._parts else False,
            "max_items": self.settings.max_items,
            "aliases": list(self.notes.aliases),
            "warnings": list(self.notes.warnings),
        }

    async def warmup(self) -> dict[str, Any]:
        """See ServiceBase."""
        core = self.core
        return await core.read(lambda: facts.warmup(core))

    async def proof(self) -> dict[str, Any]:
        """See ServiceBase."""
        core = self.core
        proven = await core.read(lambda: facts.proof(core))
        self.metrics.canary_right = bool(proven["canary"]["ok"])
        return proven

    @property
    def core(self) -> Core:
        """What was loaded; 503 before."""
        if self._parts is None:
            raise unavailable(f"The index is {self.state}.")
        return self._parts.core

    async def close(self) -> None:
        """See HostedService."""
        if self._parts is not None:
            await self._parts.core.close()


def create_service(env: Mapping[str, str]) -> IndexService:
    """The index of this environment. Raises SettingsError when the environment cannot be used."""
    return IndexService(*load_settings(env))
