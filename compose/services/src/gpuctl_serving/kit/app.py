"""How a service becomes an app: its endpoints, the common ones, and the front around them."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

from gpuctl_serving.kit import common_routes
from gpuctl_serving.kit.front import Front
from gpuctl_serving.kit.metrics import Metrics
from gpuctl_serving.kit.service import ServiceBase

Handler = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True)
class Endpoint:
    """One route of a service."""

    method: str
    path: str
    handler: Handler
    #: False for routes that answer while the service is loading or unfit (`/info`).
    needs_ready: bool = True


def json_response(content: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """A JSON answer through orjson; numpy arrays are written as they are."""
    option = orjson.OPT_SERIALIZE_NUMPY
    return Response(orjson.dumps(content, option=option), status, headers, media_type="application/json")


def timings(request: Request) -> dict[str, float]:
    """Stage name -> milliseconds of this request, sent as `Server-Timing`. A handler adds its own."""
    found: dict[str, float] = request.scope.setdefault("gpuctl.timings", {})
    return found


def create_base_app(service: ServiceBase, endpoints: Sequence[Endpoint], metrics: Metrics) -> ASGIApp:
    """The ASGI app of `service`: its endpoints, the common ones, and everything around them."""
    common = [
        Endpoint(method, path, handler, needs_ready=False)
        for method, path, handler in common_routes.routes(service, metrics, json_response)
    ]
    return Front(service, [*endpoints, *common], metrics)


def public_paths(endpoints: Sequence[Endpoint]) -> list[str]:
    """Route labels for Metrics: the service's own and the common ones."""
    return sorted({e.path for e in endpoints} | set(common_routes.PATHS))
