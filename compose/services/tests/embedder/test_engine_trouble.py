"""An engine in trouble, seen from outside: never a 200 with wrong numbers, never an endless wait."""

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from tests.support.engines import Fleet, SummingEngine
from tests.support.running import Running

from gpuctl_serving.embedder.service import create_service
from gpuctl_serving.engines.protocol import DeviceLost, EngineSpec, Rows, TokenBatch
from gpuctl_serving.engines.state import Policy
from gpuctl_serving.kit.service import ServiceBase
from gpuctl_serving.models.manifest import read_manifest

Serve = Callable[[ServiceBase], Running]

DIMENSION = 64


class Wilful(SummingEngine):
    """Does what the `mood` of its fleet says, on every batch; while it is fine its canary is right."""

    mood = "fine"

    def __init__(self, canary: Rows) -> None:
        super().__init__()
        self._right = canary

    def infer(self, batch: TokenBatch) -> Rows:
        mood = type(self).mood
        if mood == "lost":
            raise DeviceLost("it fell off the bus")
        if mood == "raises":
            raise RuntimeError("a kernel failed")
        if mood == "hangs":
            self.go.clear()
            self.go.wait(20)
        rows = np.repeat(self._right, len(batch), axis=0)
        return rows * np.nan if mood == "nan" else rows

    def kill(self) -> None:
        self.go.set()


def wilful(
    tiny: dict[str, Path], serve: Serve, deadline_ms: int = 5000
) -> tuple[type[Wilful], Fleet, Running]:
    directory = tiny["tiny-xlmr-embedder"]
    right = np.asarray([read_manifest(directory).probes.items[0].vector], np.float32)

    class Mine(Wilful):
        pass

    def make(_: EngineSpec) -> Wilful:
        return Mine(right)

    fleet = Fleet(make)
    service = create_service(
        {"GPUCTL_MODEL_DIR": str(directory), "GPUCTL_DEADLINE_MS": str(deadline_ms)}, fleet
    )
    service.served.policy = Policy(backoff=0.05, backoff_cap=0.2, prove_limit=5)
    return Mine, fleet, serve(service)


def until(running: Running, status: str) -> None:
    end = time.monotonic() + 10
    while (found := running.public.get("/health").json())["status"] != status:
        assert time.monotonic() < end, found
        time.sleep(0.01)


def test_nan_is_held_back_and_told_until_the_engine_answers_rightly_again(
    tiny: dict[str, Path], serve: Serve
) -> None:
    engine, fleet, running = wilful(tiny, serve)
    engine.mood = "nan"
    answer = running.public.post("/embed", json={"inputs": "a"})
    assert (answer.status_code, answer.headers["retry-after"].isdigit()) == (503, True)
    assert "not finite" in answer.json()["error"]
    until(running, "failed")
    assert running.public.get("/health/ready").status_code == 503
    assert running.public.get("/health/live").status_code == 200
    assert "gpuctl_nonfinite_total 1.0" in running.public.get("/metrics").text
    assert running.private.post("/private/proof").status_code == 503
    assert running.private.post("/private/warmup").status_code == 503
    engine.mood = "fine"
    until(running, "healthy")
    assert running.public.post("/embed", json={"inputs": "a"}).status_code == 200
    assert len(fleet.made) > 1


def test_a_hanging_engine_is_504_within_the_deadline_and_health_says_so(
    tiny: dict[str, Path], serve: Serve
) -> None:
    engine, fleet, running = wilful(tiny, serve, deadline_ms=200)
    engine.mood = "hangs"
    started = time.monotonic()
    answer = running.public.post("/embed", json={"inputs": "a"})
    assert (answer.status_code, time.monotonic() - started < 5) == (504, True)
    assert running.public.get("/health/live").status_code == 200
    end = time.monotonic() + 5
    while "has not answered" not in (running.public.get("/health").json()["reason"] or ""):
        assert time.monotonic() < end
        time.sleep(0.01)
    assert running.private.post("/private/proof").status_code == 503
    engine.mood = "fine"
    for made in fleet.made:
        made[1].close()
    assert running.public.post("/embed", json={"inputs": "b"}).status_code == 200


def test_a_batch_that_raises_fails_alone_and_a_lost_device_is_started_again(
    tiny: dict[str, Path], serve: Serve
) -> None:
    engine, fleet, running = wilful(tiny, serve)
    engine.mood = "raises"
    answer = running.public.post("/embed", json={"inputs": "a"})
    assert (answer.status_code, "a kernel failed" in answer.text) == (503, True)
    engine.mood = "fine"
    until(running, "healthy")
    made = len(fleet.made)
    engine.mood = "lost"
    assert running.public.post("/embed", json={"inputs": "a"}).status_code == 503
    assert "fell off the bus" in running.public.get("/health").json()["reason"]
    engine.mood = "fine"
    until(running, "healthy")
    assert len(fleet.made) > made
    assert running.public.post("/embed", json={"inputs": "a"}).status_code == 200
