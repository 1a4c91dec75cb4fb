"""The one thread that owns an engine: takes batches, checks every number, delivers."""

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from gpuctl_serving.engines.inference_metrics import InferenceMetrics
from gpuctl_serving.engines.protocol import Device, DeviceLost, Engine, OutOfMemory, Rows, TokenBatch
from gpuctl_serving.engines.queue import RowQueue
from gpuctl_serving.engines.rows import Row
from gpuctl_serving.kit.errors import BACKEND, ServiceError, unavailable
from gpuctl_serving.kit.logs import Log

#: A batch should take no longer: whoever comes next waits for it to end. On a CPU larger ones are no faster.
_BATCH_SECONDS = 0.25
#: Padded tokens below which smaller batches would cost throughput.
_LEAST_BATCH = 512

T = TypeVar("T")
Deliver = Callable[[Sequence[Row], Rows | None, ServiceError | None, float], None]

log = Log(__name__)


class EngineThread:
    """Runs an engine behind a queue. `fault` says what went wrong last, until a batch succeeds."""

    def __init__(self, engine: Engine, queue: RowQueue, metrics: InferenceMetrics, deliver: Deliver) -> None:
        self._engine = engine
        self._queue = queue
        self._metrics = metrics
        self._deliver = deliver
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self.pad_id = 0
        self.device: Device = "cpu"
        self.fault: str | None = None
        #: Set for good when the device cannot be used again.
        self.lost: str | None = None
        self.tokens_per_second = 0.0
        self._busy_since: float | None = None

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def call(self, errand: Callable[[Engine], T]) -> "Future[T]":
        """Runs something on the engine, between batches."""
        future: Future[T] = Future()

        def run() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                future.set_result(errand(self._engine))
            except BaseException as failure:
                future.set_exception(failure)

        self._queue.run_between(run)
        return future

    def busy_seconds(self) -> float:
        """How long the present batch or errand has been running; 0 when idle."""
        since = self._busy_since
        return 0.0 if since is None else time.monotonic() - since

    def close(self) -> None:
        """Ends the thread after its present batch; does not wait for an engine that hangs."""
        self._queue.close()
        if self._thread.is_alive():
            self._thread.join(timeout=5)
        if not self._thread.is_alive():
            self._engine.close()

    def _run(self) -> None:
        while (work := self._queue.take()) is not None:
            self._busy_since = time.monotonic()
            if callable(work):
                work()
            else:
                self._safely(work)
            self._busy_since = None

    def _safely(self, rows: Sequence[Row]) -> None:
        """No batch, however strange, ends the thread that answers all others."""
        try:
            self._batch(rows)
        except Exception as failure:
            log.error("batch-failed", rows=len(rows), detail=str(failure))
            self._fail(rows, unavailable("The engine failed on this batch. Its log has the trace."))

    def _batch(self, rows: Sequence[Row]) -> None:
        if self.lost is not None:
            self._fail(rows, unavailable(f"The device is lost: {self.lost}.", 30))
            return
        batch = TokenBatch.of([row.tokens for row in rows], self.pad_id)
        started = time.perf_counter()
        try:
            answer = self._engine.infer(batch)
        except OutOfMemory as failure:
            self._retry_smaller(rows, failure)
            return
        except DeviceLost as failure:
            self.lost = str(failure)
            self._fail(rows, unavailable(f"The device is lost: {failure}.", 30))
            return
        seconds = time.perf_counter() - started
        self._account(rows, batch, seconds)
        self._check(rows, answer, seconds * 1000)

    def _check(self, rows: Sequence[Row], answer: Rows, elapsed_ms: float) -> None:
        """Delivers the rows whose numbers are all finite; the others get an error, never a 200."""
        if len(answer) != len(rows):
            self._fail(rows, unavailable(f"The engine gave {len(answer)} answers for {len(rows)} texts."))
            return
        finite: NDArray[np.bool_] = np.asarray(np.isfinite(answer.reshape(len(rows), -1)).all(axis=1))
        if finite.all():
            self.fault = None
            self._deliver(rows, answer, None, elapsed_ms)
            return
        bad = [row for row, good in zip(rows, finite, strict=True) if not good]
        self._metrics.nonfinite.inc(len(bad))
        log.error("non-finite-answer", rows=len(bad), of=len(rows))
        if finite.any():
            good_rows = [row for row, good in zip(rows, finite, strict=True) if good]
            self._deliver(good_rows, answer[finite], None, elapsed_ms)
        message = "The engine gave values that are not finite numbers; they were held back."
        self._fail(bad, ServiceError(503, BACKEND, message, retry_after=1, reason="unavailable"))

    def _retry_smaller(self, rows: Sequence[Row], failure: OutOfMemory) -> None:
        log.warning("out-of-memory", rows=len(rows), budget=self._queue.batch_tokens)
        if len(rows) == 1:
            self._fail(rows, unavailable(f"One text alone does not fit the memory: {failure}.", 30))
            return
        self._queue.batch_tokens = max(64, self._queue.batch_tokens // 2)
        half = len(rows) // 2
        self._batch(rows[:half])
        self._batch(rows[half:])

    def _fail(self, rows: Sequence[Row], error: ServiceError) -> None:
        self.fault = error.message
        self._deliver(rows, None, error, 0.0)

    def _account(self, rows: Sequence[Row], batch: TokenBatch, seconds: float) -> None:
        padded, real = batch.padded_tokens, len(batch.flat)
        metrics = self._metrics
        metrics.inference_seconds.labels(self.device).observe(seconds)
        metrics.batch_size.observe(len(rows))
        metrics.batch_tokens.observe(padded)
        metrics.padding_ratio.observe(padded / real)
        rate = real / max(seconds, 1e-6)
        before = self.tokens_per_second
        self.tokens_per_second = 0.8 * before + 0.2 * rate if before else rate
        self._queue.soft_tokens = max(_LEAST_BATCH, int(self.tokens_per_second * _BATCH_SECONDS))
