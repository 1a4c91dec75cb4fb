"""Health, readiness, info, metrics and headers tell one story, in every state an instance can be in."""

import re
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.support.running import Running, run_service

from gpuctl_serving.embedder.service import Embedder, create_service
from gpuctl_serving.engines.onnx_cpu import OnnxCpuEngine
from gpuctl_serving.engines.presence import Machine
from gpuctl_serving.engines.protocol import Engine, EngineFacts, EngineSpec, Rows, TokenBatch, WorkerDied
from gpuctl_serving.engines.select import plan_engines
from gpuctl_serving.engines.state import PHASES, Phase, Policy
from gpuctl_serving.kit.errors import LoadFailed


@dataclass
class Rig:
    """What the engines of one test do."""

    loads: threading.Event
    lost: bool = False
    broken: bool = False
    cpu_lost: bool = False
    #: Bytes that the allocator of the engine on the GPU holds.
    allocated: int = 0

    def make(self, spec: EngineSpec) -> Engine:
        if self.broken:
            raise WorkerDied("a test broke it")
        return RiggedEngine(self, spec)


class RiggedEngine(OnnxCpuEngine):
    """The CPU engine, on whatever device it is made for."""

    def __init__(self, rig: Rig, spec: EngineSpec) -> None:
        super().__init__(1)
        self._rig, self._spec, self._dead = rig, spec, threading.Event()

    def load(self, model: Path) -> EngineFacts:
        while self._spec.device == "cuda" and not (self._rig.loads.wait(0.02) or self._dead.is_set()):
            pass
        facts = super().load(model)
        return EngineFacts(self._spec.device, "rigged", self._spec.dtype, facts.providers, facts.threads)

    def infer(self, batch: TokenBatch) -> Rows:
        if self._rig.lost and (self._spec.device == "cuda" or self._rig.cpu_lost):
            raise WorkerDied("a test killed it")
        return super().infer(batch)

    def memory(self) -> int:
        return self._rig.allocated if self._spec.device == "cuda" else 0

    def kill(self) -> None:
        self._dead.set()


@dataclass(frozen=True)
class Story:
    """What one of the tellers says."""

    state: str
    device: str | None
    reason: str | None
    ready: bool


def told(running: Running) -> Story:
    """Every teller's story, which must be the same; asked again when the state moves meanwhile."""
    for _ in range(5):
        before = running.public.get("/health").json()["state"]
        try:
            return _told(running)
        except AssertionError:
            if running.public.get("/health").json()["state"] == before:
                raise
    raise AssertionError("the state never stands still")


def _told(running: Running) -> Story:
    health = running.public.get("/health")
    info = running.public.get("/info").json()
    metrics = running.public.get("/metrics").text
    ready = running.public.get("/health/ready").status_code == 200
    body = health.json()
    story = Story(body["state"], body["device"], body["device_reason"], health.status_code == 200)
    assert Story(info["state"], info["device"], info["device_reason"], ready) == story
    assert info["status"] == body["status"]
    assert info["reason"] == body["reason"]
    states = dict(re.findall(r'gpuctl_engine_state\{state="(\w+)"\} ([\d.]+)', metrics))
    assert states == {phase: "1.0" if phase == story.state else "0.0" for phase in PHASES}
    devices = re.findall(r'gpuctl_device_info\{[^}]*device="(\w+)"[^}]*\} ([\d.]+)', metrics)
    assert devices == [("none", "0.0") if story.device is None else (story.device, "1.0")]
    assert f"gpuctl_ready {float(ready)}" in metrics
    headers = health.headers
    assert headers.get("x-gpuctl-device") == story.device
    assert headers.get("x-gpuctl-device-reason") == story.reason
    usual = {"ready": "healthy", "degraded": "degraded", "recovering": "degraded"}
    assert body["status"] == usual.get(story.state, story.state)
    return story


def embedder(tiny: dict[str, Path], rig: Rig, policy: Policy, **settings: str) -> Embedder:
    env = {"GPUCTL_MODEL_DIR": str(tiny["tiny-xlmr-embedder"]), **settings}
    service = create_service(env, rig.make)
    service.served.plan = plan_engines(service.settings, Machine(gpus=("Stub",), torch="2.9"))
    service.served.policy = policy
    return service


def until(running: Running, state: Phase) -> Story:
    end = time.monotonic() + 10
    while (found := running.public.get("/health").json()["state"]) != state:
        assert time.monotonic() < end, found
        time.sleep(0.01)
    return told(running)


@pytest.fixture
def rig() -> Rig:
    rig = Rig(threading.Event())
    rig.loads.set()
    return rig


def ask(running: Running, text: str) -> dict[str, str]:
    answer = running.public.post("/embed", json={"inputs": text})
    assert answer.status_code == 200, answer.text
    return dict(answer.headers)


def with_both_up(running: Running) -> None:
    end = time.monotonic() + 10
    while any(engine["state"] != "up" for engine in running.public.get("/info").json()["engines"]):
        assert time.monotonic() < end
        time.sleep(0.01)


def test_the_story_of_a_gpu_that_is_lost_and_comes_back(tiny: dict[str, Path], rig: Rig) -> None:
    service = embedder(tiny, rig, Policy(backoff=1, settle=0.2, prove_every=0.05))
    with run_service(service, load=False) as running:
        assert told(running) == Story("loading", None, None, False)
        service.load()
        assert told(running) == Story("ready", "cuda", None, True)
        with_both_up(running)
        rig.lost = True
        rig.loads.clear()
        headers = ask(running, "a")
        assert (headers["x-gpuctl-device"], headers["x-gpuctl-device-reason"]) == ("cpu", "worker-died")
        assert told(running) == Story("degraded", "cpu", "worker-died", True)
        assert until(running, "recovering") == Story("recovering", "cpu", "worker-died", True)
        rig.lost = False
        rig.loads.set()
        assert until(running, "ready") == Story("ready", "cuda", None, True)
        assert ask(running, "b")["x-gpuctl-device"] == "cuda"


def test_the_story_of_an_instance_that_has_nothing_left(tiny: dict[str, Path], rig: Rig) -> None:
    service = embedder(tiny, rig, Policy(backoff=60, backoff_cap=60))
    with run_service(service) as running:
        with_both_up(running)
        rig.lost = rig.cpu_lost = rig.broken = True
        assert running.public.post("/embed", json={"inputs": "a"}).status_code == 503
        story = until(running, "recovering")
        assert (story.device, story.ready) == (None, False)


def test_the_story_of_a_failed_restart(tiny: dict[str, Path], rig: Rig) -> None:
    service = embedder(tiny, rig, Policy(backoff=0.2, backoff_cap=0.4, settle=0.2, prove_every=0.05))
    with run_service(service) as running:
        with_both_up(running)
        rig.lost = rig.cpu_lost = rig.broken = True
        running.public.post("/embed", json={"inputs": "a"})
        story = until(running, "failed")
        assert (story.device, story.ready, story.reason) == (None, False, "worker-died")
        refused = running.public.post("/embed", json={"inputs": "b"})
        assert (refused.status_code, refused.headers["retry-after"].isdigit()) == (503, True)
        rig.lost = rig.cpu_lost = rig.broken = False
        assert until(running, "ready").device == "cuda"


def test_a_required_gpu_that_is_lost_is_503_whatever_else_could_answer(
    tiny: dict[str, Path], rig: Rig
) -> None:
    service = embedder(tiny, rig, Policy(backoff=60), GPUCTL_REQUIRE="cuda")
    with run_service(service) as running:
        with_both_up(running)
        rig.lost = True
        running.public.post("/embed", json={"inputs": "a"})
        assert told(running) == Story("degraded", "cpu", "worker-died", False)
        refused = running.public.post("/embed", json={"inputs": "b"})
        assert (refused.status_code, "GPUCTL_REQUIRE=cuda" in refused.text) == (503, True)
        assert refused.headers["retry-after"].isdigit()


def test_a_service_that_never_loaded_says_failed(tiny: dict[str, Path], rig: Rig) -> None:
    rig.broken = True
    service = embedder(tiny, rig, Policy())
    with run_service(service, load=False) as running:
        with pytest.raises(LoadFailed, match="a test broke it"):
            service.load()
        body = running.public.get("/health").json()
        assert (body["status"], body["device"]) == ("failed", None)
        assert "a test broke it" in body["reason"]
        assert running.public.get("/health/ready").status_code == 503


def test_the_proof_names_the_bytes_that_the_engines_allocator_holds_now(
    tiny: dict[str, Path], rig: Rig
) -> None:
    rig.loads.set()
    rig.allocated = 700_000_000
    with run_service(embedder(tiny, rig, Policy(backoff=60, settle=0.05, prove_every=0.01))) as running:
        until(running, "ready")
        for allocated in (700_000_000, 1_234_567):
            rig.allocated = allocated
            proof = running.private.post("/private/proof").json()
            assert (proof["device"], proof["allocatedBytes"]) == ("cuda", allocated)
            primary = running.public.get("/info").json()["engines"][0]
            assert (primary["slot"], primary["memory_bytes"]) == ("primary", allocated)
        rig.lost = True
        assert running.public.post("/embed", json={"inputs": "a"}).headers["x-gpuctl-device"] == "cpu"
        until(running, "degraded")
        proof = running.private.post("/private/proof").json()
        assert (proof["device"], proof["allocatedBytes"]) == ("cpu", 0)
