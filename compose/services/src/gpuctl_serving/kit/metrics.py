"""Prometheus metrics of one app: its own registry, every series present at zero from the start."""

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

CODES = ("200", "204", "400", "401", "403", "404", "405", "413", "422", "429", "499", "500", "503", "504")
REASONS = (
    "empty",
    "malformed",
    "validation",
    "body_too_large",
    "unauthorized",
    "cross_site",
    "queue_full",
    "rate_limited",
    "unavailable",
    "deadline",
    "cancelled",
)
#: Label of requests that match no route, so that a scanner cannot make series without end.
NO_ROUTE = "none"

#: Boundaries of every duration: the usual ladder, and what people promise (100, 150, 200, 300, 500 ms, ...),
#: so that the share above a promise can be read off without interpolation.
SECONDS = (
    *(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075),
    *(0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.75),
    *(1, 1.5, 2, 2.5, 5, 10, 30),
)


class Metrics:
    """What every service counts. A service adds its own series to `registry`."""

    content_type = CONTENT_TYPE_LATEST

    def __init__(self, routes: Iterable[str], slo_ms: float = 0) -> None:
        self.registry = CollectorRegistry(auto_describe=False)
        self.requests = Counter(
            "gpuctl_requests", "Requests answered.", ("route", "code"), registry=self.registry
        )
        self.request_seconds = seconds_histogram(
            self.registry,
            "gpuctl_request_seconds",
            "Time from a request's first byte to its answer.",
            ("route",),
            slo_ms=slo_ms,
        )
        self.rejected = Counter(
            "gpuctl_rejected", "Requests turned away.", ("reason",), registry=self.registry
        )
        self.inflight = Gauge(
            "gpuctl_inflight_requests", "Requests being answered now.", registry=self.registry
        )
        self.slow = Counter(
            "gpuctl_slow_requests", "Requests that took longer than GPUCTL_SLOW_MS.", registry=self.registry
        )
        self.keys = Gauge(
            "gpuctl_api_keys", "Keys that are accepted; 0: none is asked for.", registry=self.registry
        )
        self.key_reloads = Counter(
            "gpuctl_key_reloads", "Changes of the key file seen.", ("outcome",), registry=self.registry
        )
        for outcome in ("changed", "kept"):
            self.key_reloads.labels(outcome)
        self.ready = Gauge("gpuctl_ready", "1 when this instance can answer.", registry=self.registry)
        self.device_info = Gauge(
            "gpuctl_device_info",
            "The device that answers, as labels; the value is 1.",
            ("device", "engine", "dtype", "model", "revision"),
            registry=self.registry,
        )
        for route in (*routes, NO_ROUTE):
            self.request_seconds.labels(route)
            for code in CODES:
                self.requests.labels(route, code)
        for reason in REASONS:
            self.rejected.labels(reason)
        self.unprove_device()

    def prove_device(self, device: str, engine: str, dtype: str, model: str, revision: str) -> None:
        """Replaces the device series by the proven one."""
        self.device_info.clear()
        self.device_info.labels(device, engine, dtype, model, revision).set(1)

    def unprove_device(self) -> None:
        """No device is proven now."""
        self.device_info.clear()
        self.device_info.labels("none", "none", "none", "none", "none").set(0)

    def render(self) -> bytes:
        """The exposition text."""
        return generate_latest(self.registry)


def seconds_histogram(
    registry: CollectorRegistry, name: str, text: str, labels: tuple[str, ...] = (), *, slo_ms: float = 0
) -> Histogram:
    """A histogram with the buckets all durations of gpuctl share, and one that ends at what is promised."""
    buckets = sorted({*SECONDS, slo_ms / 1000}) if slo_ms else SECONDS
    return Histogram(name, text, labels, buckets=buckets, registry=registry)
