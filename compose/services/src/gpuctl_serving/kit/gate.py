"""Who may ask what, before a handler sees it: private routes, keys, rate limits, readiness."""

from collections.abc import Mapping
from typing import Protocol

from starlette.exceptions import HTTPException
from starlette.types import Scope

from gpuctl_serving.kit.answer import header
from gpuctl_serving.kit.auth import ApiKeys
from gpuctl_serving.kit.errors import rate_limited, unauthorized, unavailable
from gpuctl_serving.kit.metrics import Metrics
from gpuctl_serving.kit.rate_limit import RateLimiter
from gpuctl_serving.kit.service import ServiceBase
from gpuctl_serving.kit.settings import SettingsError

#: Answered without a key and in every state.
_HEALTH_PATHS = frozenset({"/health", "/health/live", "/health/ready", "/health/traffic"})
_METRICS_PATHS = frozenset({"/metrics", "/metrics/gpu"})
#: What machines ask all the time.
PROBED_PATHS = _HEALTH_PATHS | _METRICS_PATHS
#: Routes of the private socket; on a public one they do not exist.
_PRIVATE = ("/private/", "/debug/")
_ANYBODY = b""


def is_private(path: str) -> bool:
    """Whether only the private socket answers this path."""
    return path.startswith(_PRIVATE)


class Ready(Protocol):
    """Of an endpoint, whether it needs the service to be ready."""

    @property
    def needs_ready(self) -> bool:
        """False for routes that answer while the service is loading or unfit."""


class Gate:
    """Lets a request pass or raises the error it gets."""

    def __init__(self, service: ServiceBase, endpoints: Mapping[str, Ready], metrics: Metrics) -> None:
        self._service, self._endpoints, self._metrics = service, endpoints, metrics
        self._limiter = RateLimiter(service.settings.rate_limit)
        self._open = PROBED_PATHS if service.settings.metrics == "open" else _HEALTH_PATHS
        self._keys: ApiKeys | None = None
        if service.settings.api_keys_file:
            self._keys = ApiKeys(service.settings.api_keys_file)
            self._keys.on_change = self._keys_changed
            metrics.keys.set(len(self._keys.digests))
        elif service.settings.metrics == "key":
            raise SettingsError(["GPUCTL_METRICS=key needs keys: set GPUCTL_API_KEYS_FILE"])

    def admit(self, scope: Scope, private: bool) -> bytes | None:
        """Whose request this is, to be given to `charge`. Raises 401, 404, 429 and 503."""
        path = scope["path"]
        if is_private(path):
            if not private:
                raise HTTPException(404)
            return None
        if path in self._open:
            return None
        who = None if private else self._identify(scope)
        endpoint = self._endpoints.get(path)
        if endpoint is not None and not endpoint.needs_ready:
            return None
        self._limit(who)
        self._check_ready()
        return who

    def charge(self, who: bytes | None, tokens: int) -> None:
        """Counts what an answer cost against the limits of whoever asked."""
        if who is not None and tokens and self._limiter:
            self._limiter.charge(who, tokens)

    def _identify(self, scope: Scope) -> bytes:
        if self._keys is None:
            return _ANYBODY
        who = self._keys.recognise(header(scope, b"authorization"))
        if who is None:
            raise unauthorized()
        return who

    def _limit(self, who: bytes | None) -> None:
        if who is not None and self._limiter and (over := self._limiter.admit(who)):
            seconds, limit = over
            raise rate_limited(str(limit), seconds)

    def _check_ready(self) -> None:
        service = self._service
        if service.state != "ready":
            raise unavailable(
                f"The {service.name} is {service.state}" + (f": {service.reason}." if service.reason else ".")
            )
        if (unmet := service.unmet) is not None:
            raise unavailable(f"{unmet}. Free the device and restart, or lower GPUCTL_REQUIRE.", 30)

    def _keys_changed(self, count: int | None) -> None:
        self._metrics.key_reloads.labels("kept" if count is None else "changed").inc()
        if count is not None and self._keys is not None:
            self._metrics.keys.set(count)
            self._limiter.keep_only(self._keys.digests)
