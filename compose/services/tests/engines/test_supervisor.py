"""Engines that die, hang, lie and run out of memory: nobody's answer is lost, wrong, or late."""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from prometheus_client import CollectorRegistry
from tests.support.engines import CANARY, Fleet, NarrowEngine, SummingEngine, part, row

from gpuctl_serving.engines.batch_thread import ModelChanged
from gpuctl_serving.engines.batcher import Batcher, Limits, Ran
from gpuctl_serving.engines.held import Part
from gpuctl_serving.engines.inference_metrics import InferenceMetrics
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
    Tokens,
    WorkerDied,
    WorkerHung,
)
from gpuctl_serving.engines.state import Phase, Policy, SlotName
from gpuctl_serving.kit.errors import ServiceError

#: As patient as production, but in milliseconds.
QUICK = Policy(
    settle=0.05,
    prove_every=0.01,
    recheck_every=0.2,
    start_limit=0.5,
    prove_limit=0.5,
    backoff=0.05,
    backoff_cap=0.5,
    stable=5,
)
PATIENT = Policy(backoff=60, backoff_cap=60, settle=0.05, prove_every=0.01)


class Mortal(SummingEngine):
    """Sums on its device until it is told otherwise; `kill` ends it at any instant, also while it works."""

    def __init__(self, device: Device) -> None:
        super().__init__()
        self.device = device
        #: Raised by the next batches; `canary_fails` by the next canaries.
        self.fails: Exception | None = None
        self.canary_fails: Exception | None = None
        self.lies = False
        self.dead = threading.Event()
        self.poison: int | None = None

    def infer(self, batch: TokenBatch) -> Rows:
        self._alive()
        rows = super().infer(batch)
        self._alive()
        return rows

    def canary(self, batch: TokenBatch) -> Rows:
        if self.canary_fails is not None:
            raise self.canary_fails
        return super().canary(batch) + (1 if self.lies else 0)

    def answer(self, batch: TokenBatch) -> Rows:
        if self.poison is not None and self.poison in batch.flat:
            self.dead.set()
            self._alive()
        rows = super().answer(batch)
        if self.fails is not None:
            raise self.fails
        return rows

    def check(self) -> None:
        self._alive()

    def kill(self) -> None:
        self.dead.set()
        self.go.set()

    def _alive(self) -> None:
        if self.dead.is_set():
            raise WorkerDied("the process is gone")


@dataclass
class Site:
    """A batcher over a fleet, driven by a test."""

    batcher: Batcher
    fleet: Fleet
    registry: CollectorRegistry
    phases: list[Phase] = field(default_factory=list)

    async def run(self, *rows: Tokens, model: str = "sums") -> Ran:
        return await self.batcher.run(rows, model)

    async def until(self, phase: Phase, seconds: float = 5) -> None:
        end = time.monotonic() + seconds
        while self.batcher.supervisor.view.phase != phase:
            assert time.monotonic() < end, f"still {self.batcher.supervisor.view}, not {phase}"
            await asyncio.sleep(0.005)

    def last(self, device: str) -> Mortal:
        engine = self.fleet.of(device)[-1]
        assert isinstance(engine, Mortal)
        return engine

    def metric(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(name, labels)


Work = Callable[[Site], Awaitable[None]]


def mortal(spec: EngineSpec) -> Engine:
    return Mortal(spec.device)


def drive(
    work: Work,
    *,
    primary: Device = "cuda",
    fallback: Part | None = None,
    alone: bool = False,
    make: Callable[[EngineSpec], Engine] = mortal,
    policy: Policy = QUICK,
    deadline: int = 5000,
    limits: Limits | None = None,
    gpu_fault: Callable[[], str | None] = lambda: None,
) -> Site:
    registry, fleet = CollectorRegistry(), Fleet(make)
    parts: dict[SlotName, Part] = {"primary": part(primary)}
    if not alone:
        parts["fallback"] = fallback or part("cpu")
    metrics = InferenceMetrics(registry)
    metrics.wished = primary
    phases: list[Phase] = []

    def changed(_before: object, after: object) -> None:
        phase = after.phase  # type: ignore[attr-defined]  # A View; spelled out it would hide the line's point.
        if not phases or phases[-1] != phase:
            phases.append(phase)

    batcher = Batcher(
        parts,
        fleet,
        metrics,
        limits or Limits(10_000, 100, deadline),
        policy=policy,
        on_change=changed,
        gpu_fault=gpu_fault,
    )
    site = Site(batcher, fleet, registry, phases)
    batcher.start()

    async def go() -> None:
        try:
            await work(site)
        finally:
            for _, engine in fleet.made:
                engine.close()
            await asyncio.to_thread(batcher.close)

    asyncio.run(go())
    return site


async def settled(site: Site) -> None:
    """Until the fallback is up as well."""
    end = time.monotonic() + 5
    while not all(slot.up for slot in site.batcher.supervisor.slots().values()):
        assert time.monotonic() < end
        await asyncio.sleep(0.005)


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
