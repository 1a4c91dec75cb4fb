"""The way from a request to the engine and back: admission in tokens, deadlines, cancelled work dropped."""

import asyncio
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from gpuctl_serving.engines.batch_thread import BatchThread, Outcome
from gpuctl_serving.engines.held import EngineFactory, Part
from gpuctl_serving.engines.inference_metrics import InferenceMetrics
from gpuctl_serving.engines.protocol import Device, Rows, Tokens
from gpuctl_serving.engines.queue import RowQueue
from gpuctl_serving.engines.rows import Job, OnRow, Row
from gpuctl_serving.engines.state import Policy, SlotName, View
from gpuctl_serving.engines.supervisor import GpuFault, OnChange, Supervisor
from gpuctl_serving.engines.telling import refusal
from gpuctl_serving.kit.errors import ServiceError, overloaded, past_deadline, unavailable

#: Characters a token has at most, roughly: the guess before tokenising is low, the count after it is exact.
_CHARACTERS_A_TOKEN = 8


@dataclass(frozen=True)
class Limits:
    """How much may wait, and how long."""

    #: Tokens that may wait; above it requests get 429.
    queue_tokens: int
    #: The same while a CPU answers in place of what was asked for.
    degraded_queue_tokens: int
    deadline_ms: int
    #: Whether batches are made of texts near in length.
    sort: bool = True


@dataclass(frozen=True)
class Ran:
    """What a job got: one row a text, where it was computed, and how long it waited and ran."""

    rows: Rows
    queue_ms: float
    inference_ms: float
    device: Device
    #: Tokens that ran once for this job and for another.
    shared_tokens: int


class Reservation:
    """Room in the queue for texts that are being tokenised."""

    def __init__(self, batcher: "Batcher", tokens: int) -> None:
        self._batcher = batcher
        self._tokens = tokens

    def __enter__(self) -> None:
        self._batcher.reserved += self._tokens

    def __exit__(self, *_: object) -> None:
        self._batcher.reserved -= self._tokens


class Batcher:
    """Admission and delivery on the event loop; batches in a thread; engines in the supervisor's hands."""

    def __init__(
        self,
        parts: Mapping[SlotName, Part],
        factory: EngineFactory,
        metrics: InferenceMetrics,
        limits: Limits,
        *,
        on_change: OnChange = lambda _before, _after: None,
        policy: Policy | None = None,
        shortfall: str = "",
        gpu_fault: GpuFault = lambda: None,
    ) -> None:
        self._on_change = on_change
        self._metrics = metrics
        self._limits = limits
        self._queue = RowQueue(parts["primary"].batch_tokens, sort=limits.sort)
        self.supervisor = Supervisor(
            parts,
            factory,
            between=self._queue.run_between,
            on_change=self._changed,
            on_start=metrics.started,
            policy=policy,
            shortfall=shortfall,
            gpu_fault=gpu_fault,
        )
        self._thread = BatchThread(self.supervisor, self._queue, metrics, self._deliver)
        self.reserved = 0
        metrics.queue_tokens.set_function(lambda: self._queue.tokens + self.reserved)
        metrics.batch_budget.set_function(lambda: self.batch_tokens)

    def start(self) -> View:
        """Loads the engines; returns once one serves, or none can. Blocks."""
        self._thread.start()
        return self.supervisor.start()

    @property
    def batch_tokens(self) -> int:
        """Padded tokens that memory allows a batch now (less after it ran out)."""
        held = self.supervisor.serving
        return held.budget.tokens if held is not None else 0

    @property
    def queue_limit(self) -> int:
        """Tokens that may wait now: fewer on a CPU that stands in for something faster."""
        view, limits = self.supervisor.view, self._limits
        if view.device == "cpu" and view.reason is not None:
            return min(limits.queue_tokens, limits.degraded_queue_tokens)
        return limits.queue_tokens

    def busy_seconds(self) -> float:
        """How long the present batch has been running; 0 when idle."""
        return self._thread.busy_seconds()

    def reserve(self, characters: Sequence[int], max_tokens: int) -> Reservation:
        """Makes room for texts of these lengths before tokenising. Raises 429 when there is none."""
        guess = sum(min(max_tokens, 2 + count // _CHARACTERS_A_TOKEN) for count in characters)
        self._admit(guess)
        return Reservation(self, guess)

    async def run(
        self,
        sequences: Sequence[Tokens],
        model: str,
        deadline: float | None = None,
        on_row: OnRow | None = None,
    ) -> Ran:
        """Runs texts tokenised for `model`, until `deadline` on the loop's clock.

        Raises 429 when the queue is full, 503 when no engine answers, 504 past the deadline, and ModelChanged
        when another model answers now.
        """
        self._admit(sum(map(len, sequences)))
        loop = asyncio.get_running_loop()
        until = loop.time() + self._limits.deadline_ms / 1000 if deadline is None else deadline
        job = Job(loop, loop.create_future(), len(sequences), time.perf_counter(), model, left=len(sequences))
        job.on_row = on_row
        if shared := self._queue.add(job, sequences):
            self._metrics.coalesced.inc(shared)
        try:
            async with asyncio.timeout_at(until):
                rows = await job.future
        except TimeoutError:
            raise self._late() from None
        finally:
            if job.left:
                self._queue.drop(job)
        device: Device = next(iter(job.devices)) if len(job.devices) == 1 else "cpu"
        # Until its last rows left the queue, without the batches of its own that ran meanwhile.
        queue_ms = max(0.0, job.queue_ms - (job.inference_ms - job.last_ms))
        self._metrics.queue_seconds.labels(device).observe(queue_ms / 1000)
        return Ran(rows, queue_ms, job.inference_ms, device, job.shared_tokens)

    def close(self) -> None:
        """Fails what waits and ends the engines. From any thread."""
        for job in self._queue.close():
            if not job.loop.is_closed():
                job.loop.call_soon_threadsafe(_settle, job, unavailable("The service is stopping."))
        self.supervisor.close()
        self._thread.close()

    def _late(self) -> ServiceError:
        view = self.supervisor.view
        return past_deadline(self._limits.deadline_ms) if view.serving is not None else refusal(view)

    def _admit(self, tokens: int) -> None:
        view = self.supervisor.view
        if view.phase == "failed":
            raise refusal(view)
        waiting, limit = self._queue.tokens + self.reserved, self.queue_limit
        # A request larger than the whole queue is admitted when nothing waits: else it could never run.
        if waiting == 0 or waiting + tokens <= limit:
            return
        held = self.supervisor.serving
        rate = held.tokens_per_second if held is not None else 0.0
        seconds = math.ceil(waiting / rate) if rate else 1
        degraded = limit < self._limits.queue_tokens
        which = "GPUCTL_DEGRADED_QUEUE_TOKENS" if degraded else "GPUCTL_MAX_QUEUE_TOKENS"
        because = " while the CPU answers alone" if degraded else ""
        message = f"{waiting} tokens are waiting and {which} is {limit}{because}. Try again later."
        raise overloaded(message, min(60, seconds))

    def _changed(self, before: View, after: View) -> None:
        self._metrics.changed(before, after)
        self._on_change(before, after)
        if after.serving is not None and (before.serving, before.phase) != (after.serving, after.phase):
            self._thread.warm_when_quiet()

    def _deliver(self, rows: Sequence[Row], outcome: Outcome) -> None:
        """On the batch thread: one wake-up a batch for each event loop that waits."""
        loops: dict[asyncio.AbstractEventLoop, list[tuple[Job, int, int]]] = {}
        for index, (_, waiters) in enumerate(self._queue.finish(rows)):
            for job, position in waiters:
                loops.setdefault(job.loop, []).append((job, position, index))
        for loop, shares in loops.items():
            if not loop.is_closed():
                loop.call_soon_threadsafe(_hand_out, shares, outcome)


def _hand_out(shares: Sequence[tuple[Job, int, int]], outcome: Outcome) -> None:
    answer, engine = outcome.answer, outcome.engine
    jobs = {id(job): job for job, _, _ in shares}.values()
    if answer is None or engine is None:
        for job in jobs:
            _settle(job, outcome.error or unavailable("The engine gave no answer."))
        return
    for job in jobs:
        job.inference_ms += outcome.elapsed_ms
        job.last_ms = outcome.elapsed_ms
        job.devices.add(engine.device)
        if job.answer is None:
            job.answer = np.empty((job.size, *answer.shape[1:]), np.float32)
    for job, position, index in shares:
        if job.answer is None or job.answer.shape[1:] != answer.shape[1:]:
            _settle(job, unavailable("The engine changed its dimension between batches."))
            continue
        job.answer[position] = answer[index]
        if job.on_row is not None:
            job.on_row(position, answer[index : index + 1], engine)
        job.left -= 1
        if job.left == 0 and not job.future.done():
            job.future.set_result(job.answer)


def _settle(job: Job, error: Exception) -> None:
    if not job.future.done():
        job.future.set_exception(error)
