"""A batcher over engines that die, fail or lie when a test says so, with the patience of milliseconds."""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry
from tests.support.engines import Fleet, SummingEngine, part

from gpuctl_serving.engines.batcher import Batcher, Limits, Ran
from gpuctl_serving.engines.held import Part
from gpuctl_serving.engines.inference_metrics import InferenceMetrics
from gpuctl_serving.engines.protocol import (
    Device,
    Engine,
    EngineSpec,
    Rows,
    TokenBatch,
    Tokens,
    WorkerDied,
)
from gpuctl_serving.engines.state import Phase, Policy, SlotName, View

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
    given: Part | None = None,
    fallback: Part | None = None,
    alone: bool = False,
    make: Callable[[EngineSpec], Engine] = mortal,
    policy: Policy = QUICK,
    deadline: int = 5000,
    limits: Limits | None = None,
    gpu_fault: Callable[[], str | None] = lambda: None,
) -> Site:
    registry, fleet = CollectorRegistry(), Fleet(make)
    parts: dict[SlotName, Part] = {"primary": given or part(primary)}
    if not alone:
        parts["fallback"] = fallback or part("cpu")
    metrics = InferenceMetrics(registry)
    metrics.wished = primary
    phases: list[Phase] = []

    def changed(_before: View, after: View) -> None:
        if not phases or phases[-1] != after.phase:
            phases.append(after.phase)

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
