"""What the index counts on top of what every service counts."""

from collections.abc import Iterable

from prometheus_client import Counter, Gauge, Histogram

from gpuctl_serving.index import facts
from gpuctl_serving.index.ann.replica.told import REASONS, STATES
from gpuctl_serving.index.core import Core
from gpuctl_serving.kit.metrics import Metrics, seconds_histogram

#: Statuses only the index answers with.
_CODES = ("202", "409", "507")


class IndexMetrics(Metrics):
    """Every series is present at zero before the first request."""

    def __init__(self, routes: Iterable[str], slo_ms: float = 0) -> None:
        routes = list(routes)
        super().__init__(routes, slo_ms)
        for route in routes:
            for code in _CODES:
                self.requests.labels(route, code)
        self.rejected.labels("conflict")
        self.search_seconds = seconds_histogram(
            self.registry,
            "gpuctl_search_seconds",
            "Time of one search without HTTP.",
            ("device",),
            slo_ms=slo_ms,
        )
        for device in ("cpu", "cuda"):
            self.search_seconds.labels(device)
        self.replica_faults = Counter(
            "gpuctl_vector_replica_faults",
            "Searches and copies that the GPU did not do, by reason; the CPU answered.",
            ("reason",),
            registry=self.registry,
        )
        for reason in REASONS:
            self.replica_faults.labels(reason)
        self.replica_state = Gauge(
            "gpuctl_vector_replica_state",
            "1 for the state that the GPU's copy is in.",
            ("state",),
            registry=self.registry,
        )
        for state in STATES:
            self.replica_state.labels(state)
        self.items_written = Counter(
            "gpuctl_vector_items_written", "Items by what was done to them.", ("op",), registry=self.registry
        )
        for op in ("added", "updated", "deleted"):
            self.items_written.labels(op)
        self.search_batch = Histogram(
            "gpuctl_search_batch_size",
            "Queries that were answered by one call of the index.",
            buckets=(1, 2, 4, 8, 16, 32, 64),
            registry=self.registry,
        )
        self.promotions = Counter(
            "gpuctl_vector_promotions",
            "Rebuilds of a namespace as the type of its size, by how they ended.",
            ("outcome",),
            registry=self.registry,
        )
        for outcome in ("done", "failed", "abandoned"):
            self.promotions.labels(outcome)
        #: What the last canary search said.
        self.canary_right = True
        self._core: Core | None = None
        #: The embedding space that was loaded.
        self._space = "none"
        self.log_sync_seconds = seconds_histogram(
            self.registry, "gpuctl_vector_log_sync_seconds", "Time of forcing the log to disk."
        )
        self._gauges = {
            name: Gauge(f"gpuctl_vector_{name}", text, registry=self.registry)
            for name, text in {
                "recall_probe": "Recall@10 of held-out vectors at the target's effort; 0: the canary failed.",
                "trained": "1 when every namespace has the index type that its size or the settings ask for.",
                "promoting": "1 while an index is being rebuilt.",
                "replica_lag": "Changes that the GPU's copies lack; searches add them.",
                "replica_ready": "1 when a GPU has a copy and searches.",
                "count": "Vectors that can be found.",
                "index_bytes": "Memory of the vectors.",
                "snapshot_age_seconds": "Age of the newest snapshot; 0: there is none.",
                "log_stopped": "1 when the log cannot be relied on and nothing is acknowledged.",
                "sequence": "Number of the last change in memory.",
                "writer": "1 when this instance commits writes.",
                "group_commits": "Group commits of this instance since it started.",
            }.items()
        }

    def watch(self, core: Core) -> None:
        """Reads the live values at every scrape from now on."""
        self._core, live = core, core.live
        self._space = live.key or "none"
        core.place.heard = self.log_sync_seconds.observe
        if core.replica is not None:
            core.replica.heard = lambda reason: self.replica_faults.labels(reason).inc()
        core.promoter.heard = lambda outcome: self.promotions.labels(outcome).inc()
        read = {
            "recall_probe": lambda: facts.recall(core) if self.canary_right else 0.0,
            "trained": lambda: float(facts.trained(core)),
            "promoting": lambda: float(core.promoter.work is not None),
            "replica_lag": lambda: float(core.replica.facts()["lag"]) if core.replica else 0.0,
            "count": lambda: len(live.catalog) if live.catalog else 0,
            "index_bytes": lambda: live.catalog.bytes if live.catalog else 0,
            "sequence": lambda: live.applied,
            "snapshot_age_seconds": lambda: core.maintenance.age if core.maintenance else 0.0,
            "log_stopped": lambda: float(live.journal is not None and live.journal.broken is not None),
            "writer": lambda: float(core.is_writer),
            "group_commits": lambda: live.commits,
        }
        for name, value in read.items():
            self._gauges[name].set_function(value)

    def render(self) -> bytes:
        """See Metrics: with the device that searches now."""
        core = self._core
        if core is not None:
            told = core.told
            for state in STATES:
                self.replica_state.labels(state).set(state == told.state)
            self._gauges["replica_ready"].set(told.state == "searching")
            self.prove_device(told.searcher, "faiss", "float32", self._space, "none")
        return super().render()
