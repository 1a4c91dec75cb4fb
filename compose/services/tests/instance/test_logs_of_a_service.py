"""What services write into their logs while they are asked, well and badly: JSON, and never what was sent."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.keeper.world import SERVICES, eventually, free_port

SECRET = "xyzzy-a-text-that-is-nobody's-business"  # noqa: S105 - a text, not a password
KEY = "plugh-the-key"
TRACE = "0af7651916cd43dd8448eb211c80319c"
BASE = "/api/v1/vector-store"


def lines_of(
    service: str, log: Path, ask: Callable[[httpx.Client], None], **env: str
) -> list[dict[str, Any]]:
    """Starts a service that logs all it can, asks it, ends it, and reads its log."""
    port = free_port()
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", f"gpuctl_serving.{service}"],
            env={
                "PATH": os.environ["PATH"],
                "PYTHONPATH": str(SERVICES / "src"),
                "GPUCTL_PORT": str(port),
                "GPUCTL_LOG_LEVEL": "debug",
                "GPUCTL_SLOW_MS": "1",
                **env,
            },
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    headers = {
        "authorization": f"Bearer {KEY}",
        "traceparent": f"00-{TRACE}-b7ad6b7169203331-01",
        "x-request-id": "mine",
    }
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=30) as client:
            eventually(lambda: ready(client), "it is ready", 30)
            ask(client)
        process.send_signal(signal.SIGTERM)
        assert process.wait(15) == 0
    finally:
        process.kill()
    text = log.read_text()
    for private in (SECRET, SECRET.upper(), KEY):
        assert private not in text
    return [json.loads(line) for line in text.splitlines()]


def ready(client: httpx.Client) -> bool:
    try:
        return client.get("/health/ready").is_success
    except httpx.TransportError:
        return False


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    file = tmp_path / "keys"
    file.write_text(f"{KEY}\n")
    return file


def test_an_embedder(tmp_path: Path, tiny: dict[str, Path], keys: Path) -> None:
    def ask(client: httpx.Client) -> None:
        assert client.post("/embed", json={"inputs": [SECRET] * 3}).is_success
        assert client.post("/embed", json={"inputs": [SECRET * 5000], "truncate": False}).status_code == 422
        assert (
            client.post("/v1/embeddings", json={"input": SECRET, "encoding_format": SECRET}).status_code
            == 422
        )
        assert client.post("/embed", json={"inputs": "a", "prompt_name": SECRET}).status_code == 422
        assert client.post("/embed", content=f'{{"inputs": "{SECRET}'.encode()).status_code == 400
        assert client.post("/similarity", json={"inputs": SECRET}).status_code == 422
        assert client.get(f"/{SECRET}").status_code == 404
        assert client.get(f"/v1/models/{SECRET}").status_code == 404
        assert client.post("/embed", json={}, headers={"authorization": SECRET}).status_code == 401

    model = str(tiny["tiny-xlmr-embedder"])
    log = tmp_path / "log"
    lines = lines_of("embedder", log, ask, GPUCTL_MODEL_DIR=model, GPUCTL_API_KEYS_FILE=str(keys))
    requests = [line for line in lines if line["event"] == "request" and line["route"] == "/embed"]
    assert [line["status"] for line in requests] == [200, 422, 422, 400, 401]
    assert {(line["requestId"], line["traceId"]) for line in requests} == {("mine", TRACE)}
    slow = next(line for line in lines if line["event"] == "slow-request" and line["route"] == "/embed")
    assert slow["tokens"] > 0
    assert {"tokenizeMs", "queueMs", "inferenceMs"} <= slow.keys()
    assert all({"time", "level", "service", "event"} <= line.keys() for line in lines)


def test_an_index(tmp_path: Path, keys: Path) -> None:
    item = {"id": SECRET, "vector": [1.0, 0.0], "text": SECRET, "metadata": {"source": SECRET}}

    def ask(client: httpx.Client) -> None:
        assert client.post(f"{BASE}/add", json={"items": [item]}).is_success
        assert client.post(f"{BASE}/add", json={"items": [item]}).status_code == 409
        assert client.post(f"{BASE}/search", json={"vector": [1.0, 0.0], "k": 1}).is_success
        assert client.post(f"{BASE}/search", json={"text": SECRET}).status_code >= 400
        assert (
            client.post(f"{BASE}/search", json={"text": SECRET, "namespace": SECRET * 99}).status_code == 422
        )
        assert client.get(f"{BASE}/items/{SECRET}").is_success
        assert client.get(f"{BASE}/items/{SECRET.upper()}").status_code == 404
        assert client.post(f"{BASE}/delete", json={"ids": [SECRET]}).is_success

    lines = lines_of(
        "index",
        tmp_path / "log",
        ask,
        GPUCTL_INDEX_DIR=str(tmp_path / "index"),
        GPUCTL_INDEX_DIMENSION="2",
        GPUCTL_API_KEYS_FILE=str(keys),
    )
    assert {line["route"] for line in lines if line["event"] == "request"} >= {
        f"{BASE}/add",
        f"{BASE}/items/{{id:path}}",
    }
