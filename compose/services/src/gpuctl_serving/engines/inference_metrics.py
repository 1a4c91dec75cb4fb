"""Metrics of tokenising, queueing and inference, present at zero from the start."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from gpuctl_serving.engines.protocol import Device
from gpuctl_serving.kit.metrics import seconds_histogram

FALLBACK_REASONS = ("provider-absent", "load-failure", "canary-mismatch", "non-finite", "device-lost")
_DEVICES: tuple[Device, ...] = ("cuda", "mps", "cpu")


class InferenceMetrics:
    """Registered on a service's own registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.tokenize_seconds = seconds_histogram(
            registry, "gpuctl_tokenize_seconds", "Tokenising one request.", ("device",)
        )
        self.queue_seconds = seconds_histogram(
            registry, "gpuctl_queue_seconds", "From admission to the engine.", ("device",)
        )
        self.inference_seconds = seconds_histogram(
            registry, "gpuctl_inference_seconds", "One batch in the engine.", ("device",)
        )
        sizes = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
        self.batch_size = Histogram("gpuctl_batch_size", "Rows a batch.", buckets=sizes, registry=registry)
        tokens = (16, 64, 256, 1024, 2048, 4096, 8192, 16384, 65536)
        self.batch_tokens = Histogram(
            "gpuctl_batch_tokens", "Padded tokens a batch.", buckets=tokens, registry=registry
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
        for device in _DEVICES:
            for histogram in (self.tokenize_seconds, self.queue_seconds, self.inference_seconds):
                histogram.labels(device)
            if device != "cpu":
                for reason in FALLBACK_REASONS:
                    self.fallback.labels(device, "cpu", reason)
