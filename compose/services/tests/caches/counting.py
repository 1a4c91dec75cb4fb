"""A real engine that counts what reaches it and can be held in the middle of a batch."""

import threading

from gpuctl_serving.engines.onnx_cpu import OnnxCpuEngine
from gpuctl_serving.engines.protocol import EngineSpec, Rows, TokenBatch


class Counting:
    """A factory for the services; everything it makes counts into the same numbers."""

    def __init__(self) -> None:
        #: Texts that were computed, canaries left out.
        self.rows = 0
        self.fail: Exception | None = None
        self.go = threading.Event()
        self.go.set()
        self.inside = threading.Event()

    def __call__(self, spec: EngineSpec) -> "CountingEngine":
        return CountingEngine(spec.threads, self)

    def hold(self) -> None:
        """The next batch waits inside the engine for `go`."""
        self.inside.clear()
        self.go.clear()


class CountingEngine(OnnxCpuEngine):
    """See Counting."""

    def __init__(self, threads: int, counts: Counting) -> None:
        super().__init__(threads)
        self._counts = counts

    def infer(self, batch: TokenBatch) -> Rows:
        # Whatever the supervisor asks runs on other threads than the requests' batches.
        if threading.current_thread().name == "batches":
            self._counts.rows += len(batch)
            self._counts.inside.set()
            self._counts.go.wait(10)
            if (failure := self._counts.fail) is not None:
                self._counts.fail = None
                raise failure
        return super().infer(batch)

    def kill(self) -> None:
        self._counts.go.set()
