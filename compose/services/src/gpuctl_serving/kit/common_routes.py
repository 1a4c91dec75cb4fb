"""Routes every service has: health, info, metrics, and the private ones gates use."""

import os
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from gpuctl_serving.kit.gpu_metrics import gpu_metrics
from gpuctl_serving.kit.memory import peak_rss_mib, rss_mib
from gpuctl_serving.kit.metrics import Metrics
from gpuctl_serving.kit.service import ServiceBase
from gpuctl_serving.kit.stacks import all_stacks

Handler = Callable[[Request], Awaitable[Response]]
Respond = Callable[..., Response]

PATHS = ("/health", "/health/live", "/health/ready", "/health/traffic", "/info", "/metrics", "/metrics/gpu")

#: A proxy has a listener or two for a service; names beyond this many, or this long, are a stranger's.
_MOST_CHECKERS = 64


def routes(service: ServiceBase, metrics: Metrics, respond: Respond) -> list[tuple[str, str, Handler]]:
    """(method, path, handler) of every common route."""
    probes = _Probes(service, metrics, respond)
    private = _Private(service, respond)
    return [
        ("GET", "/health", probes.health),
        ("GET", "/health/live", probes.live),
        ("GET", "/health/ready", probes.ready),
        ("GET", "/health/traffic", probes.traffic),
        ("GET", "/info", probes.info),
        ("GET", "/metrics", probes.metrics),
        ("GET", "/metrics/gpu", gpu_metrics),
        ("GET", "/private/status", private.status),
        ("POST", "/private/warmup", private.warmup),
        ("POST", "/private/proof", private.proof),
        ("GET", "/debug/stacks", private.stacks),
    ]


class _Probes:
    """Answers from cached state only: a probe never waits behind a batch."""

    def __init__(self, service: ServiceBase, metrics: Metrics, respond: Respond) -> None:
        self._service, self._metrics, self._respond = service, metrics, respond

    async def health(self, _: Request) -> Response:
        body = self._service.health()
        return self._answer(body, self._service.fit)

    async def live(self, _: Request) -> Response:
        return self._respond({"status": "alive"})

    async def ready(self, _: Request) -> Response:
        health = self._service.health()
        fit = self._service.fit
        return self._answer({"status": "ready" if fit else "not-ready", "reason": health["reason"]}, fit)

    async def traffic(self, request: Request) -> Response:
        """Whether a proxy should send requests here: fit, and its traffic gate is open."""
        status = self._service.instance.traffic if self._service.fit else "not-ready"
        reason = None if status == "open" else self._service.health()["reason"]
        checks, checker = self._service.instance.checks, request.headers.get("x-gpuctl-checker", "")
        if 0 < len(checker) <= _MOST_CHECKERS and (checker in checks or len(checks) < _MOST_CHECKERS):
            checks[checker] = "open" if status == "open" else "closed"
        return self._answer({"status": status, "reason": reason}, status == "open")

    async def info(self, _: Request) -> Response:
        return self._respond(self._service.info())

    async def metrics(self, _: Request) -> Response:
        self._metrics.ready.set(1 if self._service.fit else 0)
        return Response(self._metrics.render(), media_type=self._metrics.content_type)

    def _answer(self, body: dict[str, Any], fit: bool) -> Response:
        return self._respond(body) if fit else self._respond(body, 503, {"retry-after": "1"})


class _Private:
    """For the keeper and for gates, on the private socket only."""

    def __init__(self, service: ServiceBase, respond: Respond) -> None:
        self._service, self._respond = service, respond

    async def status(self, _: Request) -> Response:
        service, facts = self._service, self._service.instance
        return self._respond(
            {
                "service": service.name,
                "id": facts.id,
                "release": facts.release,
                "state": service.state,
                "traffic": facts.traffic,
                "gate": "open" if facts.traffic == "open" else "closed",
                "checks": facts.checks,
                "device": service.device,
                "inflight": service.inflight,
                "pid": os.getpid(),
                "rssMiB": rss_mib(),
                "peakRssMiB": peak_rss_mib(),
            }
        )

    async def stacks(self, _: Request) -> Response:
        return Response(all_stacks(), media_type="text/plain")

    async def warmup(self, _: Request) -> Response:
        return self._respond({**await self._service.warmup(), "peakRssMiB": peak_rss_mib()})

    async def proof(self, _: Request) -> Response:
        return self._respond(await self._service.proof())
