"""Engines that lose their device or answer wrongly: the fallback answers until they are proven again."""

import asyncio
import time
from pathlib import Path

import numpy as np
import pytest
from tests.support.engines import row
from tests.support.supervised import PATIENT, QUICK, Mortal, Site, drive, settled

from gpuctl_serving.engines.protocol import (
    DeviceLost,
    Engine,
    EngineFacts,
    EngineSpec,
    Rows,
    TokenBatch,
    WorkerDied,
    WorkerHung,
)
from gpuctl_serving.engines.state import Policy


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        (WorkerDied("gone"), "worker-died"),
        (WorkerHung("silent"), "worker-hung"),
        (DeviceLost("CUDA error 700"), "device-error"),
    ],
)
def test_each_way_of_losing_a_device_has_its_reason(failure: Exception, reason: str) -> None:
    async def work(site: Site) -> None:
        await settled(site)
        site.last("cuda").fails = failure
        assert (await site.run(row(1))).device == "cpu"
        view = site.batcher.supervisor.view
        assert (view.phase, view.device, view.reason) == ("degraded", "cpu", reason)
        assert str(failure) in view.detail

    drive(work, policy=PATIENT)


def test_nan_from_an_engine_whose_canary_is_wrong_too_demotes_it_at_once() -> None:
    class Nan(Mortal):
        sick = False

        def infer(self, batch: TokenBatch) -> Rows:
            return super().infer(batch) * (np.nan if self.sick else 1)

    async def work(site: Site) -> None:
        await settled(site)
        gpu = site.last("cuda")
        assert isinstance(gpu, Nan)
        gpu.sick = True
        ran = await site.run(row(1), row(2))
        assert (ran.rows[:, 0].tolist(), ran.device) == ([1, 2], "cpu")
        assert site.batcher.supervisor.view.reason == "non-finite"

    def make(spec: EngineSpec) -> Engine:
        return Nan(spec.device)

    site = drive(work, make=make, policy=PATIENT)
    assert site.metric("gpuctl_nonfinite_total") == 2


def test_nan_for_one_text_alone_is_answered_by_the_fallback_and_the_primary_stays() -> None:
    class Overflows(Mortal):
        def answer(self, batch: TokenBatch) -> Rows:
            rows = super().answer(batch)
            if self.device == "cuda":
                rows[batch.ids[:, 0] == 666] = np.nan
            return rows

    async def work(site: Site) -> None:
        await settled(site)
        assert (await site.run(row(666, 1), row(2))).device == "cpu"
        assert site.batcher.supervisor.view.phase == "ready"
        for _ in range(QUICK.stumbles):
            await site.run(row(666, 1))
        await site.until("degraded", 1)
        assert site.batcher.supervisor.view.reason == "non-finite"

    drive(work, make=lambda spec: Overflows(spec.device), policy=PATIENT)


def test_a_canary_that_turns_wrong_while_nobody_asks_demotes() -> None:
    async def work(site: Site) -> None:
        await settled(site)
        site.last("cuda").lies = True
        await site.until("degraded", 3)
        assert site.batcher.supervisor.view.reason == "canary-mismatch"
        assert (await site.run(row(1))).device == "cpu"

    drive(work, policy=Policy(backoff=60, recheck_every=0.05))


def test_a_returning_primary_with_a_wrong_canary_never_serves() -> None:
    def make(spec: EngineSpec) -> Engine:
        engine = Mortal(spec.device)
        engine.lies = spec.device == "cuda" and len(fleet) > 1
        fleet.append(engine)
        return engine

    fleet: list[Engine] = []

    async def work(site: Site) -> None:
        await settled(site)
        site.last("cuda").kill()
        end = time.monotonic() + 0.6
        while time.monotonic() < end:
            assert (await site.run(row(3))).device == "cpu"
            await asyncio.sleep(0.01)
        assert site.batcher.supervisor.view.reason == "canary-mismatch"

    site = drive(work, make=make)
    assert 2 <= len(site.fleet.of("cuda")) <= 6, "tried again, ever more rarely"


def test_an_engine_on_another_device_than_it_was_made_for_is_not_believed() -> None:
    class Silent(Mortal):
        def load(self, model: Path) -> EngineFacts:
            return EngineFacts("cpu", "summing", "float32", ("CPUExecutionProvider",), 1)

    async def work(site: Site) -> None:
        view = site.batcher.supervisor.view
        assert (view.device, view.reason) == ("cpu", "provider-absent")
        assert (await site.run(row(1))).device == "cpu"

    drive(work, make=lambda spec: Silent(spec.device), policy=PATIENT)
