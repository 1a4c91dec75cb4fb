"""Engines that die at any instant: nobody's answer is lost, wrong, or late."""

import asyncio
import threading
import time

import pytest
from tests.support.engines import row
from tests.support.supervised import Mortal, Site, drive, settled

from gpuctl_serving.engines.protocol import (
    Engine,
    EngineSpec,
)
from gpuctl_serving.kit.errors import ServiceError


def test_a_batch_whose_engine_dies_is_answered_by_the_fallback_and_the_primary_comes_back() -> None:
    async def work(site: Site) -> None:
        await settled(site)
        gpu = site.last("cuda")
        gpu.go.clear()
        asked = asyncio.ensure_future(site.run(row(1, 2), row(3, 4)))
        await asyncio.to_thread(gpu.running.wait, 5)
        gpu.kill()
        ran = await asked
        assert (ran.rows.tolist(), ran.device) == ([[3, 2], [7, 2]], "cpu")
        await site.until("ready")
        assert (await site.run(row(5))).device == "cuda"

    site = drive(work)
    assert site.phases == ["ready", "degraded", "recovering", "ready"]
    assert site.metric("gpuctl_fallback_total", **{"from": "cuda", "to": "cpu", "reason": "worker-died"}) == 1
    assert site.metric("gpuctl_worker_restarts_total", slot="primary") == 1
    assert site.metric("gpuctl_retried_rows_total") == 2
    assert site.metric("gpuctl_engine_state", state="ready") == 1
    assert site.metric("gpuctl_engine_state", state="degraded") == 0


def test_a_cpu_engine_that_dies_is_restarted_and_nobody_notices() -> None:
    async def work(site: Site) -> None:
        engine = site.last("cpu")
        engine.go.clear()
        asked = [asyncio.ensure_future(site.run(row(n, 1))) for n in range(20)]
        await asyncio.to_thread(engine.running.wait, 5)
        engine.kill()
        later = asyncio.ensure_future(site.run(row(99, 1)))
        answers = await asyncio.gather(*asked, later)
        assert [ran.rows[0, 0] for ran in answers] == [*range(1, 21), 100]
        await site.until("ready")

    site = drive(work, primary="cpu", alone=True)
    assert site.phases == ["ready", "recovering", "ready"]
    assert site.metric("gpuctl_worker_restarts_total", slot="primary") == 1


def test_an_idle_engine_that_dies_is_noticed_and_replaced() -> None:
    async def work(site: Site) -> None:
        site.last("cpu").kill()
        end = time.monotonic() + 5
        while len(site.fleet.made) < 2 or site.batcher.supervisor.view.phase != "ready":
            assert time.monotonic() < end
            await asyncio.sleep(0.005)

    site = drive(work, primary="cpu", alone=True)
    assert site.phases == ["ready", "recovering", "ready"]


def test_a_request_after_both_engines_died_waits_for_one_of_them_and_was_lost_by_none() -> None:
    async def work(site: Site) -> None:
        await settled(site)
        for device in ("cuda", "cpu"):
            site.last(device).kill()
        ran = await site.run(row(1, 1))
        assert ran.rows[0, 0] == 2
        assert site.metric("gpuctl_retried_rows_total") == 0

    drive(work)


def test_a_batch_whose_engine_is_ended_by_a_stop_is_refused_at_once() -> None:
    async def work(site: Site) -> None:
        engine = site.last("cpu")
        engine.go.clear()
        asked = asyncio.ensure_future(site.run(row(1, 1)))
        await asyncio.to_thread(engine.running.wait, 5)
        await asyncio.to_thread(site.batcher.close)
        with pytest.raises(ServiceError, match="stopping") as refused:
            await asyncio.wait_for(asked, 2)
        assert refused.value.status == 503

    drive(work, primary="cpu", alone=True, deadline=30_000)


def test_when_no_thread_is_to_be_had_a_restart_is_late_and_nothing_is_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real, refused = threading.Thread.start, list[str]()

    def start(thread: threading.Thread) -> None:
        if thread.name in {"end-primary", "load-primary-2", "load-primary-3"}:
            refused.append(thread.name)
            raise RuntimeError("can't start new thread")
        real(thread)

    async def work(site: Site) -> None:
        lost = site.last("cpu")
        monkeypatch.setattr(threading.Thread, "start", start)
        lost.kill()
        ran = await site.run(row(7, 1))
        assert ran.rows[0, 0] == 8
        assert refused == ["end-primary", "load-primary-2", "load-primary-3"]
        assert len(site.fleet.made) == 2

    site = drive(work, primary="cpu", alone=True)
    assert site.phases == ["ready", "recovering", "ready"]


def test_a_fault_of_the_gpu_that_nvml_sees_moves_to_the_cpu_until_it_is_gone() -> None:
    faults: list[str] = []

    async def work(site: Site) -> None:
        await settled(site)
        faults.append("GPU 0 Tesla T4 is lost: GPU is lost")
        await site.until("degraded")
        assert site.batcher.supervisor.view.reason == "nvml-fault"
        assert (await site.run(row(1, 2))).device == "cpu"
        faults.clear()
        await site.until("ready")
        assert (await site.run(row(5))).device == "cuda"

    site = drive(work, gpu_fault=lambda: faults[0] if faults else None)
    labels = {"from": "cuda", "to": "cpu", "reason": "nvml-fault"}
    assert (site.metric("gpuctl_fallback_total", **labels) or 0) >= 1


def test_a_text_whose_asker_left_before_its_engine_died_is_answered_for_the_next_one() -> None:
    async def work(site: Site) -> None:
        engine = site.last("cpu")
        engine.go.clear()
        gone = asyncio.ensure_future(site.run(row(7, 1)))
        await asyncio.to_thread(engine.running.wait, 5)
        gone.cancel()
        await asyncio.sleep(0.01)
        engine.kill()
        await site.until("ready")
        assert (await site.run(row(7, 1))).rows.tolist() == [[8, 2]]

    drive(work, primary="cpu", alone=True, deadline=1000)


def test_a_request_that_kills_every_engine_leaves_both_to_come_back() -> None:
    def make(spec: EngineSpec) -> Engine:
        engine = Mortal(spec.device)
        engine.poison = 666
        return engine

    async def work(site: Site) -> None:
        await settled(site)
        asked = [asyncio.ensure_future(site.run(row(n, 1))) for n in (1, 2, 666, 3)]
        outcomes = await asyncio.gather(*asked, return_exceptions=True)
        failed = [o for o in outcomes if isinstance(o, BaseException)]
        assert [type(failure) for failure in failed] == [ServiceError]
        assert isinstance(outcomes[2], ServiceError)
        await site.until("ready")
        await settled(site)
        assert (await site.run(row(9))).device == "cuda"

    drive(work, make=make)


def test_a_poisonous_request_fails_alone_and_its_neighbours_are_answered() -> None:
    async def work(site: Site) -> None:
        first = site.last("cpu")
        first.go.clear()
        blocker = asyncio.ensure_future(site.run(row(1)))
        await asyncio.to_thread(first.running.wait, 5)
        poison = asyncio.ensure_future(site.run(row(666, 1)))
        good = [asyncio.ensure_future(site.run(row(n, 1))) for n in range(10, 15)]
        await asyncio.sleep(0)
        first.go.set()
        with pytest.raises(ServiceError) as failed:
            await poison
        assert (failed.value.status, failed.value.retry_after is not None) == (503, True)
        assert "tried twice" in failed.value.message
        assert [(await ran).rows[0, 0] for ran in good] == [n + 1 for n in range(10, 15)]
        assert (await blocker).rows[0, 0] == 1

    def make(spec: EngineSpec) -> Engine:
        engine = Mortal(spec.device)
        engine.poison = 666
        return engine

    site = drive(work, primary="cpu", alone=True, make=make)
    assert site.metric("gpuctl_given_up_rows_total") == 1
