"""An index service out of a copy of the package, as a process of its own."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from tests.index.instances import public_socket, wait_until
from tests.index.support import BASE


@contextmanager
def served(package: Path, directory: Path, **more: str) -> Iterator[httpx.Client]:
    """A client of it, once it answers; `more` is its environment."""
    with public_socket() as free:
        port = free.getsockname()[1]
    env = {name: value for name, value in os.environ.items() if not name.startswith("GPUCTL_")}
    env |= {
        "PYTHONPATH": str(package),
        "GPUCTL_INDEX_DIR": str(directory / "index"),
        "GPUCTL_PORT": str(port),
        "GPUCTL_INDEX_REPLICA_FROM": "100",
        "GPUCTL_DEVICE": "cuda",
        **more,
    }
    command = [sys.executable, "-m", "gpuctl_serving.index"]
    with (directory / "service.log").open("wb") as log:
        child = subprocess.Popen(command, env=env, stdout=log, stderr=log)
        http = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=20)

        def answers() -> bool:
            try:
                return (
                    http.get("/health/live").status_code == 200
                    and "device" in http.get(f"{BASE}/stats").json()
                )
            except (httpx.TransportError, ValueError):
                return False

        try:
            wait_until(answers, "the service answers")
            yield http
        finally:
            child.kill()
            child.wait()
            http.close()
