"""Pure ASGI: everything that happens to every request, in one place and in a fixed order."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, Router
from starlette.types import Receive, Scope, Send

from gpuctl_serving.kit.answer import Answer, header
from gpuctl_serving.kit.body import limited, refuse_announced
from gpuctl_serving.kit.cors import Cors
from gpuctl_serving.kit.disconnect import ClientGone
from gpuctl_serving.kit.errors import ServiceError, uninvited
from gpuctl_serving.kit.gate import PROBED_PATHS, Gate, is_private
from gpuctl_serving.kit.logs import Log, request_id, trace_id
from gpuctl_serving.kit.metrics import NO_ROUTE, Metrics
from gpuctl_serving.kit.service import ServiceBase
from gpuctl_serving.kit.trace import current_trace, read_trace

log = Log(__name__)

#: Methods that change nothing and cost little.
_HARMLESS = frozenset({"GET", "HEAD", "OPTIONS"})


class Served(Protocol):
    """An endpoint as the front sees it."""

    @property
    def method(self) -> str:
        """The one method it answers."""

    @property
    def path(self) -> str:
        """Its path, or the pattern of its paths."""

    @property
    def handler(self) -> Callable[[Request], Awaitable[Response]]:
        """Makes the answer."""

    @property
    def needs_ready(self) -> bool:
        """False for routes that answer while the service is loading or unfit."""


class Front:
    """Routes requests to handlers, and is around every one of them."""

    def __init__(self, service: ServiceBase, endpoints: Sequence[Served], metrics: Metrics) -> None:
        self._service = service
        self._metrics = metrics
        self._listed = list(endpoints)
        self._endpoints = {e.path: e for e in endpoints}
        self._routes = [Route(e.path, e.handler, methods=[e.method]) for e in endpoints]
        self._router = Router(self._routes, redirect_slashes=False)
        self._gate = Gate(service, self._endpoints, metrics)
        self._cors = Cors(service.settings.cors_origins)

    @property
    def public_routes(self) -> set[tuple[str, str]]:
        """Method and path of every route that is not of the private socket."""
        return {(e.method, e.path) for e in self._listed if not is_private(e.path)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._http(scope, receive, send)
        elif scope["type"] == "lifespan":
            await _lifespan(receive, send)

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        private = bool(scope.get("gpuctl.private"))
        answer = Answer(scope, send, self._service, self._cors)
        trace = read_trace(scope["headers"])
        tokens = (
            request_id.set(answer.request_id),
            trace_id.set(trace.trace_id if trace else ""),
            current_trace.set(trace),
        )
        self._service.inflight += not private
        self._metrics.inflight.inc()
        try:
            await self._answer(scope, receive, answer, private)
        finally:
            self._service.inflight -= not private
            self._metrics.inflight.dec()
            self._account(scope, answer)
            request_id.reset(tokens[0])
            trace_id.reset(tokens[1])
            current_trace.reset(tokens[2])

    async def _answer(self, scope: Scope, receive: Receive, answer: Answer, private: bool) -> None:
        limit = self._service.settings.max_body_bytes
        scope["app"] = self
        try:
            if await self._preflight(scope, answer):
                return
            self._refuse_uninvited(scope, private)
            who = self._gate.admit(scope, private)
            refuse_announced(scope, limit)
            await self._router(scope, limited(receive, limit), answer.send)
            self._gate.charge(who, answer.tokens)
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
            log.error("request-failed", route=self._label(scope))
            message = f"The service failed on this request. Its log has the trace under {answer.request_id}."
            await answer.refuse(ServiceError(500, "Backend", message), receive)

    def _refuse_uninvited(self, scope: Scope, private: bool) -> None:
        if private or scope["method"] in _HARMLESS:
            return
        if self._cors.uninvited(header(scope, b"origin"), header(scope, b"sec-fetch-site")):
            raise uninvited()

    async def _preflight(self, scope: Scope, answer: Answer) -> bool:
        """Answers a browser that asks before it sends, without a key. False for any other request."""
        if scope["method"] != "OPTIONS" or not header(scope, b"access-control-request-method"):
            return False
        if is_private(scope["path"]):
            return False
        methods = {each.method for each in self._listed if not is_private(each.path)}
        origin, wanted = header(scope, b"origin"), header(scope, b"access-control-request-headers")
        headers = self._cors.preflight(origin, methods, wanted)
        if headers is None:
            return False
        await answer.plain(204, headers)
        return True

    def _no_route(self, scope: Scope, http: HTTPException) -> ServiceError:
        if http.status_code == 405:
            here = [route.methods or set() for route in self._routes if route.path_regex.match(scope["path"])]
            allow = ", ".join(sorted(set().union(*here)))
            message = f"{scope['path']} does not answer {scope['method']}. Send {allow}."
            return ServiceError(405, "Validation", message, allow=allow)
        public = sorted(p.replace(":path}", "}") for p in self._endpoints if not is_private(p))
        return ServiceError(
            404, "NotFound", f"There is no {scope['path']} here. Routes: {', '.join(public)}."
        )

    def _account(self, scope: Scope, answer: Answer) -> None:
        label = self._label(scope)
        if is_private(label):
            return
        seconds, status = answer.seconds, answer.status or 499
        self._metrics.requests.labels(label, str(status)).inc()
        self._metrics.request_seconds.labels(label).observe(seconds)
        emit = log.debug if label in PROBED_PATHS else log.info
        ms = round(seconds * 1000, 2)
        emit("request", route=label, status=status, ms=ms)
        slow = self._service.settings.slow_ms
        if slow and ms >= slow:
            self._metrics.slow.inc()
            stages = {f"{name}Ms": round(took, 2) for name, took in answer.stages.items()}
            log.warning("slow-request", route=label, status=status, ms=ms, tokens=answer.tokens, **stages)

    def _label(self, scope: Scope) -> str:
        """The route's pattern: a path may hold an id, which belongs into no metric and no log."""
        route = scope.get("route")
        if route is not None:
            return str(getattr(route, "path", NO_ROUTE))
        path = str(scope["path"])
        return path if path in self._endpoints else NO_ROUTE


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        if message["type"] == "lifespan.startup":
            await send({"type": "lifespan.startup.complete"})
        else:
            await send({"type": "lifespan.shutdown.complete"})
            return
