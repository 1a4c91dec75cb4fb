"""Metrics of tokenising, queueing, inference and the engines' state, present at zero from the start."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from gpuctl_serving.engines.protocol import Device
from gpuctl_serving.engines.state import PHASES, REASONS, SlotName, View
from gpuctl_serving.kit.metrics import seconds_histogram

_SLOTS: tuple[SlotName, ...] = ("primary", "fallback")
_DEVICES: tuple[Device, ...] = ("cuda", "mps", "cpu")


class InferenceMetrics:
    """Registered on a service's own registry."""

    def __init__(self, registry: CollectorRegistry, slo_ms: float = 0) -> None:
        #: The device that should answer.
        self.wished: Device = "cpu"
        self.tokenize_seconds = seconds_histogram(
            registry, "gpuctl_tokenize_seconds", "Tokenising one request.", ("device",), slo_ms=slo_ms
        )
        self.queue_seconds = seconds_histogram(
            registry, "gpuctl_queue_seconds", "From admission to the engine.", ("device",), slo_ms=slo_ms
        )
        self.inference_seconds = seconds_histogram(
            registry, "gpuctl_inference_seconds", "One batch in the engine.", ("device",), slo_ms=slo_ms
        )
        sizes = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
        self.batch_size = Histogram("gpuctl_batch_size", "Rows a batch.", buckets=sizes, registry=registry)
        tokens = (16, 64, 256, 1024, 2048, 4096, 8192, 16384, 65536)
        self.batch_tokens = Histogram(
            "gpuctl_batch_tokens", "Padded tokens a batch.", buckets=tokens, registry=registry
        )
        self.computed_tokens = Counter(
            "gpuctl_computed_tokens", "Tokens that ran, padding left out.", registry=registry
        )
        ratios = (1.0, 1.05, 1.1, 1.25, 1.5, 2, 3, 5)
        self.padding_ratio = Histogram(
            "gpuctl_padding_ratio",
            "Padded tokens by real tokens of a batch.",
            buckets=ratios,
            registry=registry,
        )
        self.queue_tokens = Gauge("gpuctl_queue_tokens", "Tokens waiting for the engine.", registry=registry)
        self.truncated = Counter("gpuctl_truncated", "Texts that were cut to fit.", registry=registry)
        self.nonfinite = Counter(
            "gpuctl_nonfinite", "Answers held back: not finite numbers.", registry=registry
        )
        self.coalesced = Counter(
            "gpuctl_coalesced", "Texts answered by an equal one already in flight.", registry=registry
        )
        self.fallback = Counter(
            "gpuctl_fallback", "Changes of device.", ("from", "to", "reason"), registry=registry
        )
        self.out_of_memory = Counter(
            "gpuctl_out_of_memory", "Batches that did not fit the device's memory.", registry=registry
        )
        self.retried = Counter(
            "gpuctl_retried_rows", "Texts run again after their engine was lost or wrong.", registry=registry
        )
        self.given_up = Counter(
            "gpuctl_given_up_rows", "Texts that failed on two engines.", registry=registry
        )
        self.restarts = Counter(
            "gpuctl_worker_restarts", "Engines started again.", ("slot",), registry=registry
        )
        self.state = Gauge(
            "gpuctl_engine_state", "1 for the state the engines are in.", ("state",), registry=registry
        )
        self.batch_budget = Gauge(
            "gpuctl_batch_budget_tokens", "Padded tokens that memory allows a batch now.", registry=registry
        )
        self._zero()

    def started(self, slot: SlotName, run: int) -> None:
        """An engine is being started."""
        if run > 1:
            self.restarts.labels(slot).inc()

    def changed(self, before: View, after: View) -> None:
        """The engines went from one state to another."""
        for phase in PHASES:
            self.state.labels(phase).set(phase == after.phase)
        if after.serving == "fallback" and before.serving != "fallback" and after.reason is not None:
            self.fell_back(self.wished, after.device or "none", after.reason)

    def fell_back(self, wished: str, to: str, reason: str) -> None:
        """Another device answers than the one that should."""
        self.fallback.labels(wished, to, reason).inc()

    def _zero(self) -> None:
        for device in _DEVICES:
            for histogram in (self.tokenize_seconds, self.queue_seconds, self.inference_seconds):
                histogram.labels(device)
            for reason in REASONS:
                self.fallback.labels(device, "cpu", reason)
        for slot in _SLOTS:
            self.restarts.labels(slot)
        for phase in PHASES:
            self.state.labels(phase).set(phase == "loading")
