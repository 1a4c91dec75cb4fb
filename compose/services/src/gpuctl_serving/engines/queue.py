"""The queue between the event loop and the engine's thread: counted in tokens, fair, coalescing."""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gpuctl_serving.engines.protocol import Tokens
from gpuctl_serving.engines.rows import Job, Row, row_key
from gpuctl_serving.engines.window import LEAST_FREE, choose

#: Work for the engine's thread that is not a batch: loading, proofs, warm-up.
Errand = Callable[[], None]

#: A batch of so many tokens is long; requests of so few, in texts so much shorter, do not wait for it.
_LONG_TOKENS = 128
_SHORT_TOKENS = 64
_MUCH_LONGER = 4


@dataclass(frozen=True)
class QuietErrand:
    """Work that is worth doing, but not worth anybody's waiting for it."""

    run: Errand
    #: Nothing must have been asked for as long as it is likely to take: what comes then seldom meets it.
    seconds: float
    #: Its longest text: much shorter requests pass it as they pass a long batch.
    tokens: int


class RowQueue:
    """Jobs go in on the event loop, batches come out on the engine's thread. Thread-safe."""

    def __init__(self, batch_tokens: int, *, sort: bool = True) -> None:
        #: Padded tokens a batch may have now, by the serving engine's memory and speed.
        self.batch_tokens = batch_tokens
        #: Padding that costs less than another batch, by the serving engine's speed.
        self.free_padding = LEAST_FREE
        self.sort = sort
        lock = threading.RLock()
        self._changed = threading.Condition(lock)
        #: Told apart, so that a usual request wakes one thread only.
        self._beside = threading.Condition(lock)
        #: Whether the serving engine can work on a short batch beside a long one.
        self.two_at_once = False
        #: Longest text of the long batch that runs now; 0 while none does.
        self._running = 0
        self._jobs: deque[Job] = deque()
        #: Batches to run again, before all others.
        self._again: deque[list[Row]] = deque()
        self._errands: deque[Errand] = deque()
        self._quiet_errand: QuietErrand | None = None
        self._in_flight: dict[bytes, Row] = {}
        self._tokens = 0
        self._closed = False

    @property
    def tokens(self) -> int:
        """Tokens that wait."""
        return self._tokens

    def add(self, job: Job, sequences: Sequence[Tokens]) -> int:
        """Queues a job; returns how many of its rows were already in flight for someone else."""
        shared = 0
        with self._changed:
            for position, tokens in enumerate(sequences):
                key = row_key(job.model, tokens)
                row = self._in_flight.get(key)
                if row is None:
                    row = self._in_flight[key] = Row(tokens, key, job.model)
                    job.pending.append(row)
                    self._tokens += len(row)
                else:
                    shared += 1
                    job.shared_tokens += len(row)
                row.waiters.append((job, position))
                job.waits_for.append(row)
            if job.pending:
                job.pending.sort(key=len, reverse=True)
                self._jobs.append(job)
                if self._would_wait(job):
                    self._beside.notify()
                self._changed.notify()
        return shared

    def drop(self, job: Job) -> None:
        """Forgets a job whose client left. Rows that others wait for stay."""
        with self._changed:
            for row in job.waits_for:
                row.waiters = [waiter for waiter in row.waiters if waiter[0] is not job]
            wanted = [row for row in job.pending if row.waiters]
            for row in job.pending:
                if not row.waiters:
                    self._tokens -= len(row)
                    self._in_flight.pop(row.key, None)
            job.pending = wanted
            if not wanted and job in self._jobs:
                self._jobs.remove(job)

    def put_back(self, batches: Sequence[list[Row]]) -> bool:
        """Has these rows run again first, each batch as it is. False once closed: nobody would run them."""
        with self._changed:
            if self._closed:
                return False
            self._again.extend(batches)
            self._tokens += sum(len(row) for rows in batches for row in rows)
            self._changed.notify()
            return True

    def run_between(self, errand: Errand) -> None:
        """Has the engine's thread run something before its next batch."""
        with self._changed:
            self._errands.append(errand)
            self._changed.notify()

    def run_when_quiet(self, errand: QuietErrand) -> None:
        """Has the engine's thread run this once nobody asks anything; in place of the one before, if any."""
        with self._changed:
            self._quiet_errand = errand
            self._changed.notify()

    def take(self) -> list[Row] | Errand | None:
        """Blocks until there is work: a batch or an errand. None once closed."""
        with self._changed:
            self._running = 0
            while True:
                if self._closed:
                    return None
                if self._errands:
                    return self._errands.popleft()
                if self._again:
                    if rows := self._still_wanted(self._again.popleft()):
                        return rows
                elif self._jobs:
                    return self._next_batch()
                elif (quiet := self._quiet_errand) is None:
                    self._changed.wait()
                elif not self._changed.wait(quiet.seconds) and self._is_quiet(quiet):
                    self._quiet_errand, self._running = None, quiet.tokens
                    return quiet.run

    def _is_quiet(self, wanted: QuietErrand) -> bool:
        """Whether nothing came while the lock was being taken again."""
        busy = self._closed or self._errands or self._again or self._jobs
        return not busy and self._quiet_errand is wanted

    def take_beside(self) -> list[Row] | None:
        """Blocks until short requests would wait for a long batch; returns them. None once closed."""
        with self._changed:
            while not self._closed:
                if rows := self._short_ones():
                    return rows
                self._beside.wait()
            return None

    def _would_wait(self, job: Job) -> bool:
        """Whether a job is so short that it should not wait for the batch that runs."""
        if not (self.two_at_once and self.sort and self._running and job.pending):
            return False
        longest = len(job.pending[0])
        return longest * _MUCH_LONGER <= self._running and longest * len(job.pending) <= _SHORT_TOKENS

    def _short_ones(self) -> list[Row]:
        rows: list[Row] = []
        left, now = _SHORT_TOKENS, time.perf_counter()
        for job in [*self._jobs]:
            tokens = sum(map(len, job.pending))
            if tokens > left or not self._would_wait(job) or (rows and rows[0].model != job.model):
                continue
            left -= tokens
            rows += job.pending
            job.pending, job.queue_ms = [], (now - job.admitted) * 1000
            self._jobs.remove(job)
        self._tokens -= sum(map(len, rows))
        return rows

    def _still_wanted(self, rows: list[Row]) -> list[Row]:
        self._tokens -= sum(map(len, rows))
        for row in rows:
            if not row.waiters:
                self._in_flight.pop(row.key, None)
        return [row for row in rows if row.waiters]

    def _next_batch(self) -> list[Row]:
        model = self._jobs[0].model
        rows = choose(
            [job for job in self._jobs if job.model == model],
            self.batch_tokens,
            free=self.free_padding,
            sort=self.sort,
        )
        taken, now = set(map(id, rows)), time.perf_counter()
        self._tokens -= sum(map(len, rows))
        head = self._jobs.popleft()
        for job in (head, *self._jobs):
            before = len(job.pending)
            job.pending = [row for row in job.pending if id(row) not in taken]
            if len(job.pending) < before:
                job.queue_ms = (now - job.admitted) * 1000
        self._jobs = deque(job for job in self._jobs if job.pending)
        if head.pending:
            # Its next rows wait behind one row of everyone else.
            self._jobs.append(head)
        self._running = max(map(len, rows)) if sum(map(len, rows)) >= _LONG_TOKENS else 0
        if any(map(self._would_wait, self._jobs)):
            self._beside.notify()
        return rows

    def finish(self, rows: Sequence[Row]) -> list[tuple[Row, list[tuple[Job, int]]]]:
        """Ends the flight of rows; returns who waits for each. Later equal texts run anew."""
        with self._changed:
            for row in rows:
                self._in_flight.pop(row.key, None)
            return [(row, row.waiters) for row in rows]

    def close(self) -> list[Job]:
        """Lets `take` return None; returns the jobs that were not run to their end."""
        with self._changed:
            self._closed = True
            left, self._jobs = list(self._jobs), deque()
            left += [job for rows in self._again for row in rows for job, _ in row.waiters]
            self._again.clear()
            self._changed.notify_all()
            self._beside.notify_all()
            return left
