"""What a runner (keeper instance or plain server) needs of a service, and the base every service extends."""

import threading
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from starlette.types import ASGIApp

from gpuctl_serving.kit.errors import LoadFailed
from gpuctl_serving.kit.logs import Log
from gpuctl_serving.kit.settings import Notes, Settings

State = Literal["loading", "ready", "failed"]
Traffic = Literal["closed", "open", "paused"]

log = Log(__name__)


@dataclass
class InstanceFacts:
    """Who this process is to its keeper. The runner replaces it; `/private/status` reports it."""

    id: str = ""
    release: str = ""
    slot: str = ""
    traffic: Traffic = "open"
    #: What each listener of a proxy was last told about traffic, by its `x-gpuctl-checker`.
    checks: dict[str, Literal["open", "closed"]] = field(default_factory=dict)


class HostedService(Protocol):
    """A service as its runner sees it.

    The runner starts the event loop, calls `load` in a thread, and serves `app`. It
    sets `scope["gpuctl.private"] = True` on requests of the private socket: only those may reach
    `/private/...`, and they need no key. A request without that entry is a public one.
    """

    name: str
    instance: InstanceFacts
    #: Written by `load` (in its thread), read anywhere.
    state: State
    #: Why it failed, or why it is degraded; None when all is well.
    reason: str | None
    #: Public requests being answered now.
    inflight: int

    @property
    def settings(self) -> Settings:
        """What it was configured with."""

    @property
    def app(self) -> ASGIApp:
        """The ASGI app; serves `/health` from the start, the rest once `ready`. Handles no lifespan."""

    def load(self) -> None:
        """Blocks until ready. Sets `state`; raises LoadFailed when it is `failed`."""

    async def close(self) -> None:
        """Ends threads and gives files back. Requests still running may fail."""


class ServiceBase(ABC):
    """State, facts and the parts of `/health` that are alike everywhere."""

    name: str = "service"

    def __init__(self, settings: Settings, notes: Notes | None = None) -> None:
        self.settings = settings
        self.notes = notes or Notes()
        self.instance = InstanceFacts()
        self.state: State = "loading"
        self.reason: str | None = None
        self.inflight = 0
        self._loading = threading.Lock()

    @property
    @abstractmethod
    def app(self) -> ASGIApp:
        """The ASGI app, made once."""

    def load(self) -> None:
        """Template of HostedService.load around `load_parts`."""
        with self._loading:
            if self.state == "ready":
                return
            for sentence in self.notes.warnings:
                log.warning("setting-unknown", detail=sentence)
            for sentence in self.notes.aliases:
                log.info("setting-alias", detail=sentence)
            try:
                self.load_parts()
            except Exception as failure:
                self.state, self.reason = "failed", str(failure) or type(failure).__name__
                if isinstance(failure, LoadFailed):
                    raise
                raise LoadFailed(f"{self.name} cannot load: {self.reason}") from failure
            self.state = "ready"

    @abstractmethod
    def load_parts(self) -> None:
        """Loads whatever the service answers with; blocking. Raises on any doubt."""

    @property
    @abstractmethod
    def device(self) -> str | None:
        """The proven device, or None while nothing is proven."""

    @property
    @abstractmethod
    def model(self) -> str | None:
        """Id of the model that answers, or None."""

    @property
    def degraded(self) -> str | None:
        """Why it answers worse than asked for (typically a CPU in place of a GPU), or None."""
        return None

    @property
    def unmet(self) -> str | None:
        """Why `GPUCTL_REQUIRE` is not met, or None. When set, the service answers 503."""
        want = self.settings.require
        if not want or self.state != "ready" or self.device == want:
            return None
        return f"GPUCTL_REQUIRE={want}, but the proven device is {self.device or 'none'}"

    @property
    def fit(self) -> bool:
        """Whether it can answer a request now: what `/health/ready` and `gpuctl_ready` say."""
        return self.state == "ready" and self.unmet is None

    @property
    def device_reason(self) -> str | None:
        """Why the device is not the one asked for, as one word (`worker-died`), or None."""
        return None

    @property
    def status(self) -> Literal["healthy", "degraded", "loading", "failed"]:
        """`status` of `/health`."""
        if self.state != "ready":
            return self.state
        return "degraded" if self.unmet or self.degraded else "healthy"

    def health(self) -> dict[str, Any]:
        """The body of `/health`; cheap, never touches the engine."""
        return {
            "status": self.status,
            "device": self.device,
            "model": self.model,
            "service": self.name,
            "reason": self.reason if self.state == "failed" else self.unmet or self.degraded,
            "device_reason": self.device_reason,
        }

    @abstractmethod
    def info(self) -> dict[str, Any]:
        """The body of `/info`."""

    @abstractmethod
    async def warmup(self) -> dict[str, Any]:
        """The body of `POST /private/warmup`: runs every shape at its worst once more."""

    @abstractmethod
    async def proof(self) -> dict[str, Any]:
        """The body of `POST /private/proof`: what proves the device, taken now."""

    @abstractmethod
    async def close(self) -> None:
        """See HostedService."""
