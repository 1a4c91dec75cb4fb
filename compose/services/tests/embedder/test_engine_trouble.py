"""An engine in trouble, seen from outside: never a 200 with wrong numbers, never an endless wait."""

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from tests.support.engines import SummingEngine
from tests.support.running import Running

from gpuctl_serving.embedder.service import Embedder, create_service
from gpuctl_serving.engines.protocol import DeviceLost, Rows, TokenBatch
from gpuctl_serving.kit.service import ServiceBase

Serve = Callable[[ServiceBase], Running]


class Wilful(SummingEngine):
    """Does what `mood` says, on every batch."""

    mood = "fine"

    def infer(self, batch: TokenBatch) -> Rows:
        if self.mood == "lost":
            raise DeviceLost("it fell off the bus")
        if self.mood == "raises":
            raise RuntimeError("a kernel failed")
        rows = np.ones((len(batch.ids), 64), np.float32)
        if self.mood == "hangs":
            self.go.clear()
            self.go.wait(20)
        return rows * np.nan if self.mood == "nan" else rows


def wilful(tiny: dict[str, Path], serve: Serve, deadline_ms: int = 5000) -> tuple[Wilful, Running]:
    service: Embedder = create_service(
        {"GPUCTL_MODEL_DIR": str(tiny["tiny-xlmr-embedder"]), "GPUCTL_DEADLINE_MS": str(deadline_ms)}
    )
    running = serve(service)
    engine = Wilful()
    service.served.batcher.engine._engine = engine
    return engine, running


def test_nan_is_held_back_and_told_until_the_engine_answers_rightly_again(
    tiny: dict[str, Path], serve: Serve
) -> None:
    engine, running = wilful(tiny, serve)
    engine.mood = "nan"
    answer = running.public.post("/embed", json={"inputs": "a"})
    assert (answer.status_code, answer.json()["error_type"]) == (503, "Backend")
    assert "not finite" in answer.json()["error"]
    assert running.public.get("/health").json()["status"] == "degraded"
    assert "gpuctl_nonfinite_total 1.0" in running.public.get("/metrics").text
    proof = running.private.post("/private/proof").json()
    assert (proof["canary"]["ok"], proof["device"]) == (False, "none")
    assert running.private.post("/private/warmup").status_code == 503
    engine.mood = "fine"
    assert running.public.post("/embed", json={"inputs": "a"}).status_code == 200
    assert running.public.get("/health").json()["status"] == "healthy"


def test_a_hanging_engine_is_504_within_the_deadline_and_health_says_so(
    tiny: dict[str, Path], serve: Serve
) -> None:
    engine, running = wilful(tiny, serve, deadline_ms=200)
    engine.mood = "hangs"
    started = time.monotonic()
    answer = running.public.post("/embed", json={"inputs": "a"})
    assert (answer.status_code, time.monotonic() - started < 5) == (504, True)
    assert running.public.get("/health/live").status_code == 200
    assert "has not answered" in running.public.get("/health").json()["reason"]
    assert running.private.post("/private/proof").status_code == 503
    engine.mood = "fine"
    engine.go.set()
    assert running.public.post("/embed", json={"inputs": "b"}).status_code == 200


def test_an_engine_that_raises_is_503_and_a_lost_device_takes_it_out_of_service(
    tiny: dict[str, Path], serve: Serve
) -> None:
    engine, running = wilful(tiny, serve)
    engine.mood = "raises"
    answer = running.public.post("/embed", json={"inputs": "a"})
    assert (answer.status_code, "kernel" in answer.text) == (503, False)
    assert running.public.get("/health/ready").status_code == 200
    for step in ("proof", "warmup"):
        refused = running.private.post(f"/private/{step}")
        assert (refused.status_code, "a kernel failed" in refused.text) == (503, True)
    engine.mood = "lost"
    assert running.public.post("/embed", json={"inputs": "a"}).status_code == 503
    assert running.public.get("/health/ready").status_code == 503
    assert "fell off the bus" in running.public.get("/health").json()["reason"]
