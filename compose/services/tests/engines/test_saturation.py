"""A saturated queue, simulated without time: how much padding its batches hold, and who is served when."""

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest

from gpuctl_serving.engines.protocol import Tokens
from gpuctl_serving.engines.queue import RowQueue
from gpuctl_serving.engines.rows import Job, Row

LOOP = asyncio.new_event_loop()


@dataclass
class Seen:
    """What the batches of a simulation held."""

    padded: int = 0
    real: int = 0
    batches: int = 0

    @property
    def waste(self) -> float:
        return self.padded / self.real


class Clients:
    """Clients that send their next request when the last one is answered."""

    def __init__(self, queue: RowQueue, length: Callable[[], int], texts: int) -> None:
        self._queue, self._length, self._texts, self._sent = queue, length, texts, 0

    def send(self) -> Job:
        job = Job(LOOP, LOOP.create_future(), self._texts, 0.0, "m", left=self._texts)
        self._queue.add(job, [self._text() for _ in range(self._texts)])
        return job

    def _text(self) -> Tokens:
        self._sent += 1
        ids = np.ones(self._length(), np.int32)
        ids[0] = self._sent  # No two texts are equal: none is coalesced.
        return Tokens(ids, None, truncated=False)


def next_batch(queue: RowQueue) -> list[Row]:
    work = queue.take()
    assert isinstance(work, list)
    return work


def saturate(queue: RowQueue, clients: Clients, concurrency: int, batches: int) -> Seen:
    seen = Seen()
    for _ in range(concurrency):
        clients.send()
    for _ in range(batches):
        rows = next_batch(queue)
        seen.padded += max(map(len, rows)) * len(rows)
        seen.real += sum(map(len, rows))
        seen.batches += 1
        for _row, waiters in queue.finish(rows):
            for job, _ in waiters:
                job.left -= 1
                if job.left == 0:
                    clients.send()
    return seen


def mixed(seed: int) -> Callable[[], int]:
    """Lengths as real texts have them: 4 to 264 tokens, most of them short."""
    dice = random.Random(seed)  # noqa: S311 - a simulation
    return lambda: int(min(264, max(4, dice.lognormvariate(4.0, 0.9))))


@pytest.mark.parametrize("texts", [1, 4, 32])
@pytest.mark.parametrize("budget", [512, 900, 2048, 8192])
def test_mixed_lengths_at_saturation_are_padded_by_a_tenth_at_most(budget: int, texts: int) -> None:
    queue = RowQueue(budget)
    seen = saturate(queue, Clients(queue, mixed(budget + texts), texts), 32, 200)
    assert seen.waste <= 1.10


def test_without_sorting_the_same_load_is_padded_several_times_over() -> None:
    queue = RowQueue(8192, sort=False)
    assert saturate(queue, Clients(queue, mixed(1), 1), 32, 100).waste >= 2.5


def test_short_texts_of_many_clients_share_batches() -> None:
    dice = random.Random(5)  # noqa: S311 - a simulation
    queue = RowQueue(900)
    seen = saturate(queue, Clients(queue, lambda: dice.randint(8, 18), 1), 32, 200)
    assert seen.real / seen.batches / 13 >= 8, "about as many texts a batch"
    assert seen.waste <= 1.2


def test_a_fast_engine_pads_more_because_another_batch_costs_it_more() -> None:
    queue = RowQueue(8192)
    queue.free_padding = 2000
    fast = saturate(queue, Clients(queue, mixed(3), 1), 32, 100)
    slow_queue = RowQueue(8192)
    slow = saturate(slow_queue, Clients(slow_queue, mixed(3), 1), 32, 100)
    assert fast.real / fast.batches > 2 * slow.real / slow.batches


def test_a_short_text_waits_for_one_round_of_the_long_ones_at_most() -> None:
    queue = RowQueue(900)
    long_ones = Clients(queue, lambda: 256, 1)
    for _ in range(32):
        long_ones.send()
    short = Clients(queue, lambda: 13, 1).send()
    for batch in range(100):
        rows = next_batch(queue)
        for _, waiters in queue.finish(rows):
            if waiters[0][0] is short:
                assert batch <= 32 // (900 // 256) + 1
                return
            long_ones.send()
    raise AssertionError("the short text starved")


def long_batch_runs(two_at_once: bool = True) -> RowQueue:
    queue = RowQueue(900)
    queue.two_at_once = two_at_once
    Clients(queue, lambda: 256, 3).send()
    assert {len(row) for row in next_batch(queue)} == {256}
    return queue


def test_a_short_text_does_not_wait_for_a_long_batch_that_runs() -> None:
    queue = long_batch_runs()
    short = Clients(queue, lambda: 13, 1).send()
    rows = queue.take_beside()
    assert rows is not None
    assert [row.waiters[0][0] for row in rows] == [short]
    assert queue.tokens == 0


def test_texts_that_are_not_much_shorter_than_the_batch_wait_for_their_turn() -> None:
    queue = long_batch_runs()
    Clients(queue, lambda: 100, 1).send()
    Clients(queue, lambda: 13, 8).send()
    assert queue._short_ones() == []
    assert len(next_batch(queue)) > 0


def test_short_texts_alone_are_batched_together_and_never_run_beside() -> None:
    queue = RowQueue(900)
    queue.two_at_once = True
    clients = Clients(queue, lambda: 13, 1)
    for _ in range(32):
        clients.send()
    assert len(next_batch(queue)) == 32
    clients.send()
    assert queue._short_ones() == []


def test_an_engine_that_does_one_thing_at_a_time_gets_nothing_beside() -> None:
    queue = long_batch_runs(two_at_once=False)
    Clients(queue, lambda: 13, 1).send()
    assert queue._short_ones() == []
