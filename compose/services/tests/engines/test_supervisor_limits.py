"""Starts that hang or fail, memory that runs out, and how long a request waits for an engine."""

import asyncio
import time
from pathlib import Path

import pytest
from tests.support.engines import CANARY, NarrowEngine, part, row
from tests.support.supervised import PATIENT, QUICK, Mortal, Site, drive, settled

from gpuctl_serving.engines.batch_thread import ModelChanged
from gpuctl_serving.engines.protocol import (
    Device,
    DeviceLost,
    Engine,
    EngineBroken,
    EngineFacts,
    EngineSpec,
    OutOfMemory,
    Rows,
    TokenBatch,
    WorkerDied,
)
from gpuctl_serving.engines.state import Policy
from gpuctl_serving.kit.errors import ServiceError


def test_a_start_that_hangs_is_given_up_and_the_fallback_answers() -> None:
    class Stuck(Mortal):
        def load(self, model: Path) -> EngineFacts:
            if self.device == "cuda":
                self.dead.wait(20)
                self._alive()
            return super().load(model)

    async def work(site: Site) -> None:
        view = site.batcher.supervisor.view
        assert (view.device, view.reason) == ("cpu", "worker-hung")
        assert (await site.run(row(1))).rows.tolist() == [[1, 1]]

    drive(work, make=lambda spec: Stuck(spec.device))


def test_while_no_restart_succeeds_requests_are_refused_with_the_time_to_come_back() -> None:
    broken = False

    def make(spec: EngineSpec) -> Engine:
        if broken:
            raise EngineBroken("the library is gone")
        return Mortal(spec.device)

    async def work(site: Site) -> None:
        nonlocal broken
        broken = True
        site.last("cpu").fails = WorkerDied("gone")
        with pytest.raises(ServiceError) as refused:
            await site.run(row(1))
        assert (refused.value.status, refused.value.error_type) == (503, "Unhealthy")
        assert refused.value.retry_after
        await site.until("failed")
        with pytest.raises(ServiceError) as at_once:
            await site.run(row(1))
        assert "the library is gone" in at_once.value.message
        broken = False
        await site.until("ready")
        assert (await site.run(row(1))).rows.tolist() == [[1, 1]]

    drive(work, primary="cpu", alone=True, make=make)


def test_a_request_never_waits_past_its_deadline_for_an_engine_that_does_not_come() -> None:
    class Slow(Mortal):
        def load(self, model: Path) -> EngineFacts:
            if starts.pop():
                self.dead.wait(20)
            return super().load(model)

    starts = [True, True, True, False]

    async def work(site: Site) -> None:
        site.last("cpu").fails = WorkerDied("gone")
        began = time.monotonic()
        with pytest.raises(ServiceError) as late:
            await site.run(row(1))
        assert (late.value.status, bool(late.value.retry_after)) == (503, True)
        assert time.monotonic() - began < 3

    drive(
        work,
        primary="cpu",
        alone=True,
        make=lambda spec: Slow(spec.device),
        deadline=200,
        policy=Policy(start_limit=60, backoff=0.05),
    )


def test_out_of_memory_again_and_again_demotes_and_the_budget_is_told() -> None:
    async def work(site: Site) -> None:
        await settled(site)
        for n in range(QUICK.stumbles):
            ran = await site.run(*(row(10 * n + k, 1) for k in range(8)))
            assert len(ran.rows) == 8
            if n == 0:
                assert site.batcher.batch_tokens < 256
                assert site.metric("gpuctl_batch_budget_tokens") == site.batcher.batch_tokens
        await site.until("degraded", 1)
        assert site.batcher.supervisor.view.reason == "out-of-memory"

    class Narrow(NarrowEngine):
        device: Device = "cuda"

    def make(spec: EngineSpec) -> Engine:
        return Narrow(1) if spec.device == "cuda" else Mortal(spec.device)

    site = drive(work, make=make, policy=PATIENT)
    assert (site.metric("gpuctl_out_of_memory_total") or 0) >= QUICK.stumbles


def test_a_text_too_large_for_the_gpu_alone_is_computed_by_the_fallback() -> None:
    class Tiny(Mortal):
        def answer(self, batch: TokenBatch) -> Rows:
            if self.device == "cuda" and batch.width > 5:
                raise OutOfMemory("too wide")
            return super().answer(batch)

    async def work(site: Site) -> None:
        await settled(site)
        assert (await site.run(row(1, 1, 1, 1, 1, 1))).device == "cpu"
        assert (await site.run(row(1))).device == "cuda"

    drive(work, make=lambda spec: Tiny(spec.device))


def test_a_degraded_cpu_takes_less_into_its_queue() -> None:
    async def work(site: Site) -> None:
        await settled(site)
        assert site.batcher.queue_limit == 10_000
        site.last("cuda").fails = DeviceLost("gone")
        await site.run(row(1))
        assert site.batcher.queue_limit == 100
        cpu = site.last("cpu")
        cpu.go.clear()
        cpu.running.clear()
        busy = asyncio.ensure_future(site.run(row(1, 2)))
        await asyncio.to_thread(cpu.running.wait, 5)
        waiting = asyncio.ensure_future(site.run(*(row(n, 5) for n in range(45))))
        await asyncio.sleep(0)
        with pytest.raises(ServiceError) as full:
            await site.run(*(row(n, 6) for n in range(45)))
        assert (full.value.status, bool(full.value.retry_after)) == (429, True)
        assert "GPUCTL_DEGRADED_QUEUE_TOKENS" in full.value.message
        cpu.go.set()
        await asyncio.gather(busy, waiting)

    drive(work, policy=PATIENT)


def test_rows_of_a_model_that_does_not_answer_any_more_go_back_to_be_tokenised_again() -> None:
    async def work(site: Site) -> None:
        await settled(site)
        with pytest.raises(ModelChanged):
            await site.run(row(1), model="unknown")
        site.last("cuda").fails = WorkerDied("gone")
        with pytest.raises(ModelChanged):
            await site.run(row(1))
        assert (await site.run(row(1), model="smaller")).device == "cpu"

    drive(work, fallback=part("cpu", model="smaller"), policy=PATIENT)


def test_the_first_load_tries_the_fallback_and_fails_when_nothing_loads() -> None:
    def make(spec: EngineSpec) -> Engine:
        raise EngineBroken(f"no {spec.device} here")

    async def work(site: Site) -> None:
        view = site.batcher.supervisor.view
        assert (view.phase, view.reason) == ("failed", "load-failure")
        assert "no cuda here" in view.detail

    drive(work, make=make)


def test_what_killed_nobody_is_not_counted() -> None:
    async def work(site: Site) -> None:
        await settled(site)
        await site.run(row(1))

    site = drive(work)
    for name in ("retried_rows", "given_up_rows", "out_of_memory", "nonfinite"):
        assert site.metric(f"gpuctl_{name}_total") == 0
    for reason in ("worker-died", "nvml-fault", "provider-absent"):
        labels = {"from": "cuda", "to": "cpu", "reason": reason}
        assert site.metric("gpuctl_fallback_total", **labels) == 0
    assert CANARY not in {first for batch in site.last("cuda").firsts for first in batch}
