"""A service with a stub of a GPU, as it runs in production: a front, its workers, and one that is killed."""

import os
import re
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from tests.faults.package import faulty_package
from tests.worker.services import ServiceProcess, running


@pytest.fixture(scope="module")
def with_gpu(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package with a stub of a GPU."""
    return faulty_package(tmp_path_factory.mktemp("gpu"), gpu=True)


@pytest.fixture
def service(with_gpu: Path, tiny: dict[str, Path], tmp_path: Path) -> Iterator[ServiceProcess]:
    with running("embedder", tiny["tiny-xlmr-embedder"], tmp_path / "log", code=with_gpu) as process:
        process.until("/health/ready")
        yield process


def engines(service: ServiceProcess) -> dict[str, dict[str, Any]]:
    info = orjson.loads(service.ask("GET", "/info").body)
    return {engine["slot"]: engine for engine in info["engines"]}


def worker_of(service: ServiceProcess, device: str) -> int:
    """The worker whose command line names this device."""
    for pid in service.workers():
        if f'"device":"{device}"'.encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
            return pid
    raise AssertionError(f"no worker on {device}")


def until(service: ServiceProcess, state: str, seconds: float = 30) -> dict[str, Any]:
    end = time.monotonic() + seconds
    while True:
        body: dict[str, Any] = orjson.loads(service.ask("GET", "/health").body)
        if body["state"] == state:
            return body
        assert time.monotonic() < end, body
        time.sleep(0.02)


def until_both_are_up(service: ServiceProcess) -> None:
    end = time.monotonic() + 30
    while any(engine["state"] != "up" for engine in engines(service).values()):
        assert time.monotonic() < end
        time.sleep(0.02)


def test_a_killed_gpu_worker_costs_nobody_an_answer_and_comes_back(service: ServiceProcess) -> None:
    until_both_are_up(service)
    right = orjson.loads(service.ask("POST", "/embed", {"inputs": ["text 0"]}).body)[0]
    seen: list[tuple[int, str, str | None]] = []
    stop = threading.Event()

    def client(number: int) -> None:
        for count in range(10_000):
            if stop.is_set():
                return
            # Another text every time: none comes out of a cache.
            texts = ["text 0", f"{number} {count}"]
            answer = service.ask("POST", "/embed", {"inputs": texts})
            reason = answer.headers.get("x-gpuctl-device-reason")
            seen.append((answer.status, answer.headers.get("x-gpuctl-device", ""), reason))
            if answer.status == 200:
                assert np.allclose(orjson.loads(answer.body)[0], right, atol=1e-5)

    clients = [threading.Thread(target=client, args=(number,)) for number in range(4)]
    for thread in clients:
        thread.start()
    os.kill(worker_of(service, "cuda"), signal.SIGKILL)
    body = until(service, "degraded", 5)
    assert (body["status"], body["device"], body["device_reason"]) == ("degraded", "cpu", "worker-died")
    assert "SIGKILL" in body["reason"]
    until(service, "recovering")
    until(service, "ready")
    stop.set()
    for thread in clients:
        thread.join()
    assert {status for status, _, _ in seen} == {200}
    assert {(device, reason) for _, device, reason in seen} >= {("cpu", "worker-died"), ("cuda", None)}
    assert service.ask("POST", "/embed", {"inputs": "after"}).headers["x-gpuctl-device"] == "cuda"
    metrics = service.ask("GET", "/metrics").body.decode()
    assert re.search(r'gpuctl_fallback_total\{from="cuda",reason="worker-died",to="cpu"\} 1.0', metrics)
    assert 'gpuctl_worker_restarts_total{slot="primary"} 1.0' in metrics
    assert 'gpuctl_worker_restarts_total{slot="fallback"} 0.0' in metrics


def test_a_stopped_gpu_worker_is_noticed_by_its_heartbeat(service: ServiceProcess) -> None:
    until_both_are_up(service)
    os.kill(worker_of(service, "cuda"), signal.SIGSTOP)
    answer = service.ask("POST", "/embed", {"inputs": "a"})
    assert (answer.status, answer.headers["x-gpuctl-device"]) == (200, "cpu")
    assert answer.headers["x-gpuctl-device-reason"] == "worker-hung"


def test_killing_the_fallback_changes_nothing_for_anybody(service: ServiceProcess) -> None:
    until_both_are_up(service)
    os.kill(worker_of(service, "cpu"), signal.SIGKILL)
    assert service.ask("POST", "/embed", {"inputs": "a"}).headers["x-gpuctl-device"] == "cuda"
    assert orjson.loads(service.ask("GET", "/health").body)["status"] == "healthy"
    end = time.monotonic() + 20
    while engines(service)["fallback"]["starts"] < 2:
        assert time.monotonic() < end
        time.sleep(0.05)
    until_both_are_up(service)
