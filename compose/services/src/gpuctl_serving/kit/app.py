"""The app around a service's routes: ids, keys, limits, errors, health, metrics, timings."""

import re
import secrets
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, Router
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gpuctl_serving.kit import common_routes
from gpuctl_serving.kit.auth import ApiKeys
from gpuctl_serving.kit.body import limited, refuse_announced
from gpuctl_serving.kit.disconnect import ClientGone
from gpuctl_serving.kit.errors import ServiceError, unauthorized, unavailable
from gpuctl_serving.kit.logs import Log, request_id
from gpuctl_serving.kit.metrics import NO_ROUTE, Metrics
from gpuctl_serving.kit.service import ServiceBase

Handler = Callable[[Request], Awaitable[Response]]

log = Log(__name__)

#: Answered without a key and in every state.
OPEN_PATHS = frozenset({"/health", "/health/live", "/health/ready", "/metrics"})
_SAFE_ID = re.compile(rb"[A-Za-z0-9._:-]{1,64}")
_DRAIN_BYTES = 64 * 1024 * 1024
_DRAIN_SECONDS = 5.0


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


class Front:
    """Pure ASGI: everything that happens to every request, in one place and in a fixed order."""

    def __init__(self, service: ServiceBase, endpoints: Sequence[Endpoint], metrics: Metrics) -> None:
        self._service = service
        self._metrics = metrics
        self._endpoints = {e.path: e for e in endpoints}
        self._router = Router(
            [Route(e.path, e.handler, methods=[e.method]) for e in endpoints], redirect_slashes=False
        )
        keys = service.settings.api_keys_file
        self._keys = ApiKeys.from_file(keys) if keys else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._http(scope, receive, send)
        elif scope["type"] == "lifespan":
            await _lifespan(receive, send)

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = time.perf_counter()
        private = bool(scope.get("gpuctl.private"))
        answer = _Answer(scope, send, self._service, started)
        token = request_id.set(answer.request_id)
        self._service.inflight += not private
        self._metrics.inflight.inc()
        try:
            await self._answer(scope, receive, answer, private)
        finally:
            self._service.inflight -= not private
            self._metrics.inflight.dec()
            self._account(scope, answer, time.perf_counter() - started)
            request_id.reset(token)

    async def _answer(self, scope: Scope, receive: Receive, answer: "_Answer", private: bool) -> None:
        limit = self._service.settings.max_body_bytes
        scope["app"] = self
        try:
            self._admit(scope, private)
            refuse_announced(scope, limit)
            await self._router(scope, limited(receive, limit), answer.send)
        except ServiceError as refused:
            if refused.reason:
                self._metrics.rejected.labels(refused.reason).inc()
            await answer.refuse(refused, receive)
        except ClientGone:
            self._metrics.rejected.labels("cancelled").inc()
        except HTTPException as http:
            await answer.refuse(self._no_route(scope, http), receive)
        except Exception:
            if answer.status:
                raise
            log.error("request-failed", path=scope["path"])
            message = f"The service failed on this request. Its log has the trace under {answer.request_id}."
            await answer.refuse(ServiceError(500, "Backend", message), receive)

    def _admit(self, scope: Scope, private: bool) -> None:
        path = scope["path"]
        if path.startswith("/private/"):
            if not private:
                raise HTTPException(404)
            return
        if path in OPEN_PATHS:
            return
        if self._keys and not private and not self._keys.admits(_header(scope, b"authorization")):
            raise unauthorized()
        endpoint = self._endpoints.get(path)
        if endpoint is not None and not endpoint.needs_ready:
            return
        service = self._service
        if service.state != "ready":
            raise unavailable(
                f"The {service.name} is {service.state}" + (f": {service.reason}." if service.reason else ".")
            )
        if (unmet := service.unmet) is not None:
            raise unavailable(f"{unmet}. Free the device and restart, or lower GPUCTL_REQUIRE.", 30)

    def _no_route(self, scope: Scope, http: HTTPException) -> ServiceError:
        if http.status_code == 405:
            allow = ", ".join(sorted((http.headers or {}).get("Allow", "").split(", ")))
            message = f"{scope['path']} does not answer {scope['method']}. Send {allow}."
            return ServiceError(405, "Validation", message, allow=allow)
        public = sorted(p.replace(":path}", "}") for p in self._endpoints if not p.startswith("/private/"))
        return ServiceError(
            404, "NotFound", f"There is no {scope['path']} here. Routes: {', '.join(public)}."
        )

    def _account(self, scope: Scope, answer: "_Answer", seconds: float) -> None:
        route = scope.get("route")
        label = getattr(route, "path", NO_ROUTE) if route is not None else self._label(scope["path"])
        if label.startswith("/private/"):
            return
        self._metrics.requests.labels(label, str(answer.status or 499)).inc()
        self._metrics.request_seconds.labels(label).observe(seconds)
        emit = log.debug if label in OPEN_PATHS else log.info
        emit("request", route=label, status=answer.status or 499, ms=round(seconds * 1000, 2))

    def _label(self, path: str) -> str:
        return path if path in self._endpoints else NO_ROUTE


class _Answer:
    """Sends one response: adds the headers every answer carries, remembers its status."""

    def __init__(self, scope: Scope, send: Send, service: ServiceBase, started: float) -> None:
        self._scope, self._send, self._service, self._started = scope, send, service, started
        given = _SAFE_ID.fullmatch(_header(scope, b"x-request-id").encode())
        self.request_id = given.group().decode() if given else secrets.token_hex(8)
        self.status = 0

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message["headers"] = [*message["headers"], *self._headers()]
        await self._send(message)

    def _headers(self) -> list[tuple[bytes, bytes]]:
        stages = dict(self._scope.get("gpuctl.timings", {}))
        stages["total"] = (time.perf_counter() - self._started) * 1000
        timing = ", ".join(f"{name};dur={ms:.2f}" for name, ms in stages.items())
        headers = [(b"x-request-id", self.request_id.encode()), (b"server-timing", timing.encode())]
        if device := self._service.device:
            headers.append((b"x-gpuctl-device", device.encode()))
        return headers

    async def refuse(self, refused: ServiceError, receive: Receive) -> None:
        """Answers an error in full, then swallows what the client still sends, so that it can read it."""
        headers = {"connection": "close"} if refused.status == 413 else {}
        if refused.retry_after is not None:
            headers["retry-after"] = str(refused.retry_after)
        if refused.allow is not None:
            headers["allow"] = refused.allow
        if refused.status == 401:
            headers["www-authenticate"] = "Bearer"
        response = json_response(refused.body(self._scope["path"]), refused.status, headers)
        await self.send(
            {"type": "http.response.start", "status": refused.status, "headers": response.raw_headers}
        )
        await self.send(
            {"type": "http.response.body", "body": response.body, "more_body": refused.status == 413}
        )
        if refused.status == 413:
            await self._drain(receive)
            await self.send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _drain(self, receive: Receive) -> None:
        # Closing with unread bytes resets the connection, and the client loses the answer it was sent.
        if _header(self._scope, b"expect"):
            return
        left, until = _DRAIN_BYTES, time.monotonic() + _DRAIN_SECONDS
        while left > 0 and time.monotonic() < until:
            message = await receive()
            left -= len(message.get("body", b""))
            if message["type"] != "http.request" or not message.get("more_body", False):
                return


def _header(scope: Scope, wanted: bytes) -> str:
    for name, value in scope["headers"]:
        if name == wanted:
            return bytes(value).decode("latin-1")
    return ""


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        if message["type"] == "lifespan.startup":
            await send({"type": "lifespan.startup.complete"})
        else:
            await send({"type": "lifespan.shutdown.complete"})
            return
