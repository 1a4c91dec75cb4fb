"""The services themselves, each a process of its own in its own Python environment, as deployed."""

import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

SERVICES = Path(__file__).parents[1]
TINY_MODELS = SERVICES.parents[1] / "test" / "golden" / "models"
MINILM = "sentence-transformers/all-MiniLM-L6-v2"
_START_SECONDS = 60


@dataclass(frozen=True)
class Service:
    """One running service."""

    url: str
    process: subprocess.Popen[bytes]
    log: Path

    def post(self, path: str, body: object, **headers: str) -> httpx.Response:
        """Plain HTTP, to compare a client with."""
        return httpx.post(f"{self.url}{path}", json=body, headers=headers, timeout=30)


def runtime_python() -> str:
    """The Python that runs services; `npm test -- clients` names it."""
    return os.environ["GPUCTL_TEST_RUNTIME_PYTHON"]


def minilm() -> Path:
    """Directory of the real model in the store made for the tests."""
    store = Path(os.environ["GPUCTL_TEST_MODEL_STORE"])
    (manifest,) = store.glob("sentence-transformers--all-MiniLM-L6-v2/*/manifest.json")
    return manifest.parent


def tiny(name: str, store: Path) -> Path:
    """A tiny model of random weights, fetched into `store` like anyone's own."""
    pooling = {"pooling": "cls"} if name.endswith("-embedder") else {}
    spec = json.dumps({"source": "path", "path": str(TINY_MODELS / name), **pooling})
    fetch = ["-m", "gpuctl_serving.models", "fetch", "--store", str(store), "--spec", spec]
    subprocess.run([runtime_python(), *fetch], env=_environment({}), check=True, stdout=subprocess.DEVNULL)
    (manifest,) = store.glob(f"local--{name}/*/manifest.json")
    return manifest.parent


@contextmanager
def running(name: str, log: Path, *, wait: bool = True, **settings: str | Path) -> Iterator[Service]:
    """Starts `name` with these settings on a free port; ends it afterwards."""
    port = _free_port()
    env = {f"GPUCTL_{key.upper()}": str(value) for key, value in settings.items()}
    with log.open("wb") as output:
        process = subprocess.Popen(
            [runtime_python(), "-m", f"gpuctl_serving.{name}"],
            env=_environment({"GPUCTL_PORT": str(port), "GPUCTL_THREADS": "1", **env}),
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    service = Service(f"http://127.0.0.1:{port}", process, log)
    try:
        _until(service, "/health/ready" if wait else "/health/live")
        yield service
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _until(service: Service, path: str) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        if service.process.poll() is not None:
            break
        try:
            if httpx.get(f"{service.url}{path}", timeout=5).is_success:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.05)
    raise RuntimeError(f"{service.url} did not start:\n{service.log.read_text()[-4000:]}")


def _environment(more: dict[str, str]) -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    return {**kept, "PYTHONPATH": str(SERVICES / "src"), "PYTHONDONTWRITEBYTECODE": "1", **more}


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])
