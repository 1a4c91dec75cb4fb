"""The way from a request to the engine and back: admission in tokens, deadlines, cancelled work dropped."""

import asyncio
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gpuctl_serving.engines.engine_thread import EngineThread
from gpuctl_serving.engines.inference_metrics import InferenceMetrics
from gpuctl_serving.engines.protocol import Engine, Rows, Tokens
from gpuctl_serving.engines.queue import RowQueue
from gpuctl_serving.engines.rows import Job, Row
from gpuctl_serving.kit.errors import ServiceError, overloaded, past_deadline, unavailable

#: Characters a token has at most, roughly: the guess before tokenising is low, the count after it is exact.
_CHARACTERS_A_TOKEN = 8


@dataclass(frozen=True)
class Ran:
    """What a job got: one row a text, and how long it waited and ran."""

    rows: Rows
    queue_ms: float
    inference_ms: float


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
    """Admission and delivery on the event loop; the engine in its own thread."""

    def __init__(
        self,
        engine: Engine,
        metrics: InferenceMetrics,
        *,
        batch_tokens: int,
        queue_tokens: int,
        deadline_ms: int,
    ) -> None:
        self._metrics = metrics
        self._limit = queue_tokens
        self._deadline_ms = deadline_ms
        self._queue = RowQueue(batch_tokens)
        self.engine = EngineThread(engine, self._queue, metrics, self._deliver)
        self.reserved = 0
        metrics.queue_tokens.set_function(lambda: self._queue.tokens + self.reserved)

    @property
    def batch_tokens(self) -> int:
        """Padded tokens of a batch now (halved when memory ran out)."""
        return self._queue.batch_tokens

    def reserve(self, characters: Sequence[int], max_tokens: int) -> Reservation:
        """Makes room for texts of these lengths before tokenising. Raises 429 when there is none."""
        guess = sum(min(max_tokens, 2 + count // _CHARACTERS_A_TOKEN) for count in characters)
        self._admit(guess)
        return Reservation(self, guess)

    async def run(self, sequences: Sequence[Tokens]) -> Ran:
        """Runs tokenised texts. Raises 429 when the queue is full, 504 past the deadline."""
        self._admit(sum(map(len, sequences)))
        loop = asyncio.get_running_loop()
        job = Job(loop, loop.create_future(), len(sequences), time.perf_counter(), left=len(sequences))
        if shared := self._queue.add(job, sequences):
            self._metrics.coalesced.inc(shared)
        try:
            async with asyncio.timeout(self._deadline_ms / 1000):
                rows = await job.future
        except TimeoutError:
            raise past_deadline(self._deadline_ms) from None
        finally:
            if job.left:
                self._queue.drop(job)
        self._metrics.queue_seconds.labels(self.engine.device).observe(job.queue_ms / 1000)
        return Ran(rows, job.queue_ms, job.inference_ms)

    def close(self) -> None:
        """Fails what waits and ends the engine. From any thread."""
        for job in self._queue.close():
            if not job.loop.is_closed():
                job.loop.call_soon_threadsafe(_settle, job, unavailable("The service is stopping."))
        self.engine.close()

    def _admit(self, tokens: int) -> None:
        waiting = self._queue.tokens + self.reserved
        # A request larger than the whole queue is admitted when nothing waits: else it could never run.
        if waiting == 0 or waiting + tokens <= self._limit:
            return
        rate = self.engine.tokens_per_second
        seconds = math.ceil(waiting / rate) if rate else 1
        message = (
            f"{waiting} tokens are waiting and GPUCTL_MAX_QUEUE_TOKENS is {self._limit}. Try again later."
        )
        raise overloaded(message, min(60, seconds))

    def _deliver(
        self, rows: Sequence[Row], answer: Rows | None, error: ServiceError | None, elapsed_ms: float
    ) -> None:
        """On the engine's thread: one wake-up a batch for each event loop that waits."""
        loops: dict[asyncio.AbstractEventLoop, list[tuple[Job, int, int]]] = {}
        for index, (_, waiters) in enumerate(self._queue.finish(rows)):
            for job, position in waiters:
                loops.setdefault(job.loop, []).append((job, position, index))
        for loop, shares in loops.items():
            if not loop.is_closed():
                loop.call_soon_threadsafe(_hand_out, shares, answer, error, elapsed_ms)


def _hand_out(
    shares: Sequence[tuple[Job, int, int]], answer: Rows | None, error: ServiceError | None, elapsed_ms: float
) -> None:
    if answer is None:
        for job in {id(job): job for job, _, _ in shares}.values():
            _settle(job, error or unavailable("The engine gave no answer."))
        return
    for job in {id(job): job for job, _, _ in shares}.values():
        job.inference_ms += elapsed_ms
        if job.answer is None:
            job.answer = np.empty((job.size, *answer.shape[1:]), np.float32)
    for job, position, index in shares:
        if job.answer is None or job.answer.shape[1:] != answer.shape[1:]:
            _settle(job, unavailable("The engine changed its dimension between batches."))
            continue
        job.answer[position] = answer[index]
        job.left -= 1
        if job.left == 0 and not job.future.done():
            job.future.set_result(job.answer)


def _settle(job: Job, error: ServiceError) -> None:
    if not job.future.done():
        job.future.set_exception(error)
