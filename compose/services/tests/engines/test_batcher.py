"""Admission, delivery, deadlines, cancellation and faults between requests and the engine."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence

import pytest
from prometheus_client import CollectorRegistry
from tests.support.engines import NarrowEngine, PoisonedEngine, SummingEngine, part, row

from gpuctl_serving.engines.batcher import Batcher, Limits, Ran
from gpuctl_serving.engines.inference_metrics import InferenceMetrics
from gpuctl_serving.engines.protocol import Rows, TokenBatch, Tokens
from gpuctl_serving.engines.state import Policy
from gpuctl_serving.kit.errors import ServiceError


def rows(count: int, length: int = 4, start: int = 1) -> list[Tokens]:
    return [row(*range(start + n, start + n + length)) for n in range(count)]


async def run(batcher: Batcher, sequences: Sequence[Tokens]) -> Ran:
    return await batcher.run(sequences, "sums")


def drive(
    engine: SummingEngine,
    work: Callable[[Batcher], Awaitable[None]],
    *,
    batch: int = 256,
    queue: int = 10_000,
    deadline: int = 5000,
    sort: bool = True,
) -> CollectorRegistry:
    registry = CollectorRegistry()
    batcher = Batcher(
        {"primary": part(batch_tokens=batch)},
        lambda _: engine,
        InferenceMetrics(registry),
        Limits(queue, queue, deadline, sort),
        policy=Policy(backoff=0.05, backoff_cap=0.2),
    )
    assert batcher.start().phase == "ready"

    async def drive_it() -> None:
        try:
            await work(batcher)
        finally:
            engine.go.set()
            await asyncio.to_thread(batcher.close)

    asyncio.run(drive_it())
    return registry


async def engine_busy(engine: SummingEngine, batcher: Batcher) -> "asyncio.Task[Ran]":
    """Starts a batch and waits until the engine is inside it."""
    engine.go.clear()
    first = asyncio.ensure_future(run(batcher, [row(7, 7, 7)]))
    await asyncio.to_thread(engine.running.wait, 5)
    return first


def test_every_text_gets_its_own_answer_whatever_batch_it_was_in() -> None:
    async def work(batcher: Batcher) -> None:
        many = [
            rows(n, length, start)
            for n, length, start in ((1, 3, 5), (40, 9, 50), (7, 200, 1), (100, 2, 900))
        ]
        for sequences, ran in zip(
            many, await asyncio.gather(*(run(batcher, one) for one in many)), strict=True
        ):
            wanted = [[tokens.ids.sum(), len(tokens)] for tokens in sequences]
            assert ran.rows.tolist() == wanted

    engine = SummingEngine()
    drive(engine, work)
    assert all(count * width <= 256 or count == 1 for count, width in engine.batches)


def test_equal_texts_in_flight_run_once() -> None:
    async def work(batcher: Batcher) -> None:
        first = await engine_busy(engine, batcher)
        waiting = [asyncio.ensure_future(run(batcher, [row(7, 7, 7), row(1, 2)])) for _ in range(3)]
        await asyncio.sleep(0)
        engine.go.set()
        answers = await asyncio.gather(first, *waiting)
        assert all(a.rows[-1].tolist() == [3, 2] for a in answers[1:])

    engine = SummingEngine()
    registry = drive(engine, work)
    assert sum(count for count, _ in engine.batches) == 2
    assert registry.get_sample_value("gpuctl_coalesced_total") == 5


def test_a_full_queue_answers_429_with_the_seconds_to_wait() -> None:
    async def work(batcher: Batcher) -> None:
        first = await engine_busy(engine, batcher)
        queued = asyncio.ensure_future(run(batcher, rows(10)))
        await asyncio.sleep(0)
        with pytest.raises(ServiceError) as refused:
            await run(batcher, rows(10, start=500))
        assert (refused.value.status, refused.value.error_type) == (429, "Overloaded")
        assert refused.value.retry_after is not None
        assert refused.value.retry_after >= 1
        with pytest.raises(ServiceError):
            batcher.reserve([400], 512)
        engine.go.set()
        await asyncio.gather(first, queued)

    engine = SummingEngine()
    drive(engine, work, queue=45)


def test_a_request_larger_than_the_queue_runs_when_nothing_waits() -> None:
    async def work(batcher: Batcher) -> None:
        assert len((await run(batcher, rows(100))).rows) == 100

    drive(SummingEngine(), work, queue=20)


def test_an_engine_that_hangs_gives_504_and_the_queue_forgets_the_work() -> None:
    async def work(batcher: Batcher) -> None:
        engine.go.clear()
        with pytest.raises(ServiceError) as late:
            await asyncio.gather(run(batcher, [row(1)]), run(batcher, [row(2)] * 3))
        assert late.value.status == 504
        await asyncio.sleep(0.05)
        assert batcher._queue.tokens == 0

    engine = SummingEngine()
    drive(engine, work, deadline=100)


def test_work_of_a_client_that_left_is_never_run() -> None:
    async def work(batcher: Batcher) -> None:
        first = await engine_busy(engine, batcher)
        gone = asyncio.ensure_future(run(batcher, rows(5, start=100)))
        shared = asyncio.ensure_future(run(batcher, rows(1, start=100)))
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.sleep(0)
        engine.go.set()
        await first
        assert (await shared).rows[0].tolist() == [100 + 101 + 102 + 103, 4]

    engine = SummingEngine()
    drive(engine, work)
    assert sum(count for count, _ in engine.batches) == 2


def test_out_of_memory_halves_the_batch_until_it_passes() -> None:
    async def work(batcher: Batcher) -> None:
        ran = await run(batcher, rows(20))
        assert ran.rows.tolist() == [[r.ids.sum(), 4] for r in rows(20)]
        assert batcher.batch_tokens < 256

    drive(NarrowEngine(3), work)


class Slow(SummingEngine):
    def answer(self, batch: TokenBatch) -> Rows:
        time.sleep(batch.padded_tokens / 4000)
        return super().answer(batch)


def test_a_slow_engine_gets_small_batches_so_that_nobody_waits_long() -> None:
    async def work(batcher: Batcher) -> None:
        await run(batcher, rows(20, 100))
        await run(batcher, rows(20, 100, 500))

    engine = Slow()
    drive(engine, work, batch=4000)
    first, *later = [count * width for count, width in engine.batches]
    assert first == 2000
    assert len(later) >= 2
    assert max(later) <= 1000


def test_without_sorting_a_batch_is_whatever_waits_also_on_a_slow_engine() -> None:
    async def work(batcher: Batcher) -> None:
        await run(batcher, rows(20, 100))
        await run(batcher, rows(20, 100, 500))

    engine = Slow()
    drive(engine, work, batch=4000, sort=False)
    assert [count * width for count, width in engine.batches] == [2000, 2000]


def test_the_time_in_the_queue_leaves_out_the_batches_of_the_request_itself() -> None:
    class Slow(SummingEngine):
        def answer(self, batch: TokenBatch) -> Rows:
            time.sleep(0.05)
            return super().answer(batch)

    engine = Slow()

    async def work(batcher: Batcher) -> None:
        began = time.perf_counter()
        ran = await run(batcher, rows(60, 40))
        took = (time.perf_counter() - began) * 1000
        assert len(engine.batches) >= 3
        assert ran.inference_ms >= 50 * len(engine.batches)
        assert ran.queue_ms + ran.inference_ms <= took

    drive(engine, work, batch=800)


def test_a_text_that_alone_is_too_much_fails_alone() -> None:
    async def work(batcher: Batcher) -> None:
        with pytest.raises(ServiceError) as failed:
            await run(batcher, rows(1))
        assert failed.value.status == 503
        assert "does not fit" in failed.value.message

    drive(NarrowEngine(0), work)


def test_a_row_that_is_not_finite_is_held_back_and_its_neighbours_are_answered() -> None:
    async def work(batcher: Batcher) -> None:
        first = await engine_busy(engine, batcher)
        bad = asyncio.ensure_future(run(batcher, [row(666, 1, 2)]))
        good = asyncio.ensure_future(run(batcher, [row(5, 1, 2)]))
        await asyncio.sleep(0)
        engine.go.set()
        await first
        with pytest.raises(ServiceError) as held:
            await bad
        assert (held.value.status, held.value.error_type) == (503, "Backend")
        assert (await good).rows.tolist() == [[8, 3]]
        assert (await run(batcher, [row(9)])).rows.tolist() == [[9, 1]]
        assert batcher.supervisor.view.phase == "ready"

    engine = PoisonedEngine(666)
    registry = drive(engine, work)
    assert registry.get_sample_value("gpuctl_nonfinite_total") == 2


def test_a_small_request_overtakes_the_rest_of_a_large_one() -> None:
    async def work(batcher: Batcher) -> None:
        first = await engine_busy(engine, batcher)
        large = asyncio.ensure_future(run(batcher, rows(60, 60, 1000)))
        small = asyncio.ensure_future(run(batcher, [row(1, 2)]))
        await asyncio.sleep(0)
        engine.go.set()
        await asyncio.gather(first, small, large)

    engine = SummingEngine()
    drive(engine, work)
    served = next(n for n, firsts in enumerate(engine.firsts) if 1 in firsts)
    assert served <= 2 < len(engine.firsts) - 1


def test_closing_answers_what_still_waits() -> None:
    async def work(batcher: Batcher) -> None:
        first = await engine_busy(engine, batcher)
        waiting = asyncio.ensure_future(run(batcher, rows(3)))
        await asyncio.sleep(0)
        closing = asyncio.ensure_future(asyncio.to_thread(batcher.close))
        with pytest.raises(ServiceError) as stopped:
            await waiting
        assert stopped.value.status == 503
        engine.go.set()
        await asyncio.gather(first, closing)

    engine = SummingEngine()
    drive(engine, work)
