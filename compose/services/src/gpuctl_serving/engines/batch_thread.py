"""The thread that takes batches to whichever engine serves, checks every number, and delivers."""

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from gpuctl_serving.engines.held import Held, reason_of
from gpuctl_serving.engines.inference_metrics import InferenceMetrics
from gpuctl_serving.engines.protocol import DeviceLost, EngineSpec, OutOfMemory, Rows, TokenBatch
from gpuctl_serving.engines.queue import QuietErrand, RowQueue
from gpuctl_serving.engines.rows import Row, by_request
from gpuctl_serving.engines.state import Reason
from gpuctl_serving.engines.supervisor import Supervisor
from gpuctl_serving.engines.telling import refusal
from gpuctl_serving.engines.warmup import Shape
from gpuctl_serving.engines.window import LEAST_FREE
from gpuctl_serving.kit.errors import BACKEND, ServiceError, unavailable
from gpuctl_serving.kit.logs import Log

#: A batch should take no longer: whoever comes next waits for it to end. On a CPU larger ones are no faster.
_BATCH_SECONDS = 0.25
#: Padded tokens below which smaller batches would cost throughput, and what a batch has while the speed is
#: not known.
_LEAST_BATCH = 512
_FIRST_BATCH = 2048
#: What a batch costs beyond its tokens: padding that takes less is cheaper than one more batch.
_OVERHEAD_SECONDS = 0.004
#: A shape that is likely to take longer is left cold: its requests wait for so long anyway.
_MOST_WARM_SECONDS = 10.0
#: Between two requests of one client there is less.
_LEAST_QUIET_SECONDS = 0.05
#: A row is run again once, then given up: whatever broke two engines would break a third.
_MOST_LOSSES = 2

log = Log(__name__)


class ModelChanged(Exception):
    """Another model answers now: tokenise for it and come again."""


@dataclass(frozen=True)
class Outcome:
    """What became of some rows: an answer from an engine, or an error."""

    answer: Rows | None = None
    error: Exception | None = None
    engine: EngineSpec | None = None
    elapsed_ms: float = 0.0


class Deliver(Protocol):
    """Takes the outcome of rows to whoever waits for them."""

    def __call__(self, rows: Sequence[Row], outcome: Outcome) -> None:
        """From the batch thread; does not wait."""


class BatchThread:
    """Runs what the queue gives on the engine that serves."""

    def __init__(
        self, supervisor: Supervisor, queue: RowQueue, metrics: InferenceMetrics, deliver: Deliver
    ) -> None:
        self._supervisor = supervisor
        self._queue = queue
        self._metrics = metrics
        self._deliver = deliver
        self._thread = threading.Thread(target=self._run, name="batches", daemon=True)
        self._side = threading.Thread(target=self._run_beside, name="short-batches", daemon=True)
        self._closed = False
        self._busy_since: float | None = None

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()
        self._side.start()

    def busy_seconds(self) -> float:
        """How long the present batch or errand has been running; 0 when idle."""
        since = self._busy_since
        return 0.0 if since is None else time.monotonic() - since

    def warm_when_quiet(self) -> None:
        """Has the engine that serves run what it has not run yet, a shape at a time, while nobody asks."""
        held = self._supervisor.serving
        shape = None if held is None else held.warmup.next(_MOST_WARM_SECONDS)
        if held is None or shape is None:
            return

        def errand() -> None:
            if self._supervisor.serving is held and shape in held.warmup.cold:
                self._warm(held, shape)
            self.warm_when_quiet()

        # What the queue has to know of an engine before its first batch: short requests pass a long shape.
        self._adapt(held)
        seconds = max(_LEAST_QUIET_SECONDS, held.warmup.expected(shape))
        self._queue.run_when_quiet(QuietErrand(errand, seconds, shape.tokens))

    def _warm(self, held: Held, shape: Shape) -> None:
        try:
            held.warm(shape)
        except DeviceLost as failure:
            self._supervisor.lose(held, reason_of(failure), str(failure))

    def close(self) -> None:
        """Ends the thread after its present batch; does not wait for an engine that hangs."""
        self._closed = True
        self._queue.close()
        for thread in (self._thread, self._side):
            if thread.is_alive():
                thread.join(timeout=5)

    def _run(self) -> None:
        while (work := self._queue.take()) is not None:
            self._busy_since = time.monotonic()
            try:
                if callable(work):
                    work()
                else:
                    self._batch(work)
            except Exception as failure:
                # No batch, however strange, ends the thread that answers all others.
                log.error("batch-failed", detail=str(failure))
                if not callable(work):
                    self._fail(work, unavailable("The engine failed on this batch. Its log has the trace."))
            self._busy_since = None

    def _run_beside(self) -> None:
        while (rows := self._queue.take_beside()) is not None:
            try:
                self._short_batch(rows)
            except Exception as failure:
                log.error("batch-failed", detail=str(failure))
                self._fail(rows, unavailable("The engine failed on this batch. Its log has the trace."))

    def _short_batch(self, rows: list[Row]) -> None:
        """While a long one runs. Whatever is not usual is left to the thread that runs those."""
        held = self._supervisor.engine_for(rows[0].model, retry=False)
        if held is None or not held.two_at_once:
            self._put_back(rows)
            return
        try:
            self._infer(held, rows, beside=True)
        except OutOfMemory:
            self._put_back(rows)
        except DeviceLost as failure:
            self._supervisor.lose(held, reason_of(failure), str(failure))
            self._again(rows, f"The engine was lost: {failure}")
        except Exception as failure:
            log.error("batch-raised", rows=len(rows), detail=str(failure))
            self._doubt(held, rows, "device-error", f"The engine raised {type(failure).__name__}")

    def _batch(self, rows: list[Row]) -> None:
        held = self._engine_for(rows)
        if held is None:
            return
        self._adapt(held)
        left, starved = [rows], ""
        while left:
            part = left.pop()
            try:
                self._infer(held, part)
            except OutOfMemory as failure:
                starved = str(failure)
                left += self._smaller(held, part, starved)
            except DeviceLost as failure:
                self._supervisor.lose(held, reason_of(failure), str(failure))
                self._again(
                    [row for rest in (part, *left) for row in rest], f"The engine was lost: {failure}"
                )
                return
            except Exception as failure:  # A library raises its own: the canary tells what it means.
                log.error("batch-raised", rows=len(part), detail=str(failure))
                self._doubt(held, part, "device-error", f"The engine raised {type(failure).__name__}")
        if starved:
            self._supervisor.stumble(held, "out-of-memory", starved)
        self._adapt(held)

    def _engine_for(self, rows: list[Row]) -> Held | None:
        """Waits for an engine that runs their model while anyone waits; settles them if none can."""
        model, retry = rows[0].model, rows[0].losses > 0
        while not self._closed:
            if (held := self._supervisor.engine_for(model, retry=retry)) is not None:
                if self._lives(held):
                    return held
                continue
            # Asked of the engine itself: one with their model may have come up since the line above.
            if (other := self._supervisor.serving) is not None and other.part.model != model:
                self._fail(rows, ModelChanged())
                return None
            if self._supervisor.view.phase == "failed":
                self._fail(rows, refusal(self._supervisor.view))
                return None
            if not any(row.waiters for row in rows):
                break
            self._supervisor.wait(0.25)
        self._fail(rows, unavailable("The service is stopping, or nobody waits any more."))
        return None

    def _lives(self, held: Held) -> bool:
        """Asked before a batch: an engine that died while idle is not a loss that its rows met."""
        try:
            held.check()
        except DeviceLost as gone:
            self._supervisor.lose(held, reason_of(gone), str(gone))
            return False
        return True

    def _infer(self, held: Held, rows: Sequence[Row], *, beside: bool = False) -> None:
        batch = TokenBatch.of([row.tokens for row in rows], held.part.pad_id)
        started = time.perf_counter()
        answer = held.infer_beside(batch) if beside else held.infer(batch)
        seconds = time.perf_counter() - started
        self._account(held, batch, seconds)
        if not beside:
            held.learn(len(batch.flat), seconds)
        self._check(held, rows, answer, seconds * 1000)

    def _check(self, held: Held, rows: Sequence[Row], answer: Rows, elapsed_ms: float) -> None:
        """Delivers the rows whose numbers are all finite and of the model's shape; doubts the others."""
        if len(answer) != len(rows) or answer.shape[1:] != held.part.shape:
            self._doubt(
                held, rows, "canary-mismatch", f"The engine gave {answer.shape} for {len(rows)} texts"
            )
            return
        finite: NDArray[np.bool_] = np.asarray(np.isfinite(answer.reshape(len(rows), -1)).all(axis=1))
        engine = held.part.spec
        if finite.all():
            held.budget.passed(time.monotonic())
            self._deliver(rows, Outcome(answer, None, engine, elapsed_ms))
            return
        good = [row for row, fine in zip(rows, finite, strict=True) if fine]
        bad = [row for row, fine in zip(rows, finite, strict=True) if not fine]
        self._metrics.nonfinite.inc(len(bad))
        log.error("non-finite-answer", rows=len(bad), of=len(rows), device=engine.device)
        if good:
            self._deliver(good, Outcome(answer[finite], None, engine, elapsed_ms))
        what = "The engine gave values that are not finite numbers; they were held back"
        self._doubt(held, bad, "non-finite", what)

    def _doubt(self, held: Held, rows: Sequence[Row], reason: Reason, detail: str) -> None:
        """A batch went wrong. The canary tells whether it is the engine or the batch."""
        try:
            if self._supervisor.prove(held).reason is None:
                self._supervisor.stumble(held, reason, detail)
        except DeviceLost as failure:
            log.error("engine-lost", slot=held.slot, detail=str(failure))
        self._again(rows, detail)

    def _again(self, rows: Sequence[Row], why: str) -> None:
        """Once more, each request apart; what was lost twice fails alone."""
        for row in rows:
            row.losses += 1
        hopeless = [row for row in rows if row.losses >= _MOST_LOSSES]
        if hopeless:
            log.error("rows-given-up", rows=len(hopeless), detail=why)
            self._metrics.given_up.inc(len(hopeless))
            message = f"{why}. It was tried twice: send it again later, and see the service's log."
            self._fail(hopeless, ServiceError(503, BACKEND, message, retry_after=5, reason="unavailable"))
        once_more = [row for row in rows if row.losses < _MOST_LOSSES]
        self._metrics.retried.inc(len(once_more))
        self._put_back(once_more)

    def _put_back(self, rows: list[Row]) -> None:
        if not self._queue.put_back(by_request(rows)):
            self._fail(rows, unavailable("The service is stopping."))

    def _smaller(self, held: Held, rows: list[Row], detail: str) -> list[list[Row]]:
        """Shrinks the budget; returns the halves to try. One text alone goes to another engine, or fails."""
        log.warning("out-of-memory", rows=len(rows), budget=held.budget.tokens, device=held.part.spec.device)
        self._metrics.out_of_memory.inc()
        held.budget.shrink(len(rows) * max(map(len, rows)), time.monotonic())
        if len(rows) == 1:
            self._again(rows, f"One text alone does not fit the memory: {detail}")
            return []
        half = len(rows) // 2
        return [rows[half:], rows[:half]]

    def _fail(self, rows: Sequence[Row], error: Exception) -> None:
        self._deliver(rows, Outcome(error=error))

    def _account(self, held: Held, batch: TokenBatch, seconds: float) -> None:
        padded, real = batch.padded_tokens, len(batch.flat)
        metrics = self._metrics
        metrics.inference_seconds.labels(held.part.spec.device).observe(seconds)
        metrics.batch_size.observe(len(batch))
        metrics.batch_tokens.observe(padded)
        metrics.computed_tokens.inc(real)
        metrics.padding_ratio.observe(padded / real)

    def _adapt(self, held: Held) -> None:
        """The next batch is as large as this engine's memory and speed allow."""
        rate = held.tokens_per_second
        soft = max(_LEAST_BATCH, int(rate * _BATCH_SECONDS)) if rate else _FIRST_BATCH
        # Without sorting a batch is whatever waits.
        self._queue.batch_tokens = min(held.budget.tokens, soft) if self._queue.sort else held.budget.tokens
        self._queue.two_at_once = held.two_at_once
        self._queue.free_padding = max(LEAST_FREE, int(rate * _OVERHEAD_SECONDS))
