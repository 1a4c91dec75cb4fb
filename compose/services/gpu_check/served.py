"""A service as people run it: its own process, asked over HTTP."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gpu_check.child import environment

_READY_SECONDS = 300
_STOP_SECONDS = 30


class Served:
    """A running service."""

    def __init__(self, process: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
        self._process, self._port, self._log = process, port, log

    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any, dict[str, str]]:
        """Status, answer, headers; JSON where it is JSON."""
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        try:
            payload = None if body is None else json.dumps(body)
            connection.request(method, path, payload, {"content-type": "application/json"})
            response = connection.getresponse()
            text = response.read()
            kind = response.getheader("content-type") or ""
            answer = json.loads(text) if "json" in kind else text.decode()
            return response.status, answer, {k.lower(): v for k, v in response.getheaders()}
        finally:
            connection.close()

    def health(self) -> dict[str, Any]:
        """`/health`, empty while nobody listens."""
        try:
            answer = self.ask("GET", "/health")[1]
        except OSError:
            return {}
        return answer if isinstance(answer, dict) else {}

    def worker(self, engine: str) -> int | None:
        """Process id of this engine; None when it has no process of its own."""
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        found = []
        for task in children.parent.parent.glob("*/children"):
            found += [int(pid) for pid in task.read_text().split()]
        for pid in found:
            arguments = Path(f"/proc/{pid}/cmdline").read_bytes()
            if b"engines.worker" in arguments and engine.encode() in arguments:
                return pid
        return None

    def until(self, wanted: Callable[[dict[str, Any]], bool], seconds: float) -> float:
        """Seconds until `/health` is as wanted. Raises TimeoutError."""
        started = time.monotonic()
        while time.monotonic() - started < seconds:
            if wanted(self.health()):
                return time.monotonic() - started
            if self._process.poll() is not None:
                raise TimeoutError(f"the service ended: {self._last_words()}")
            time.sleep(0.05)
        raise TimeoutError(f"after {seconds} s /health is {self.health()}: {self._last_words()}")

    def stop(self) -> None:
        """Ends it as an operator does; kills what does not end."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def _last_words(self) -> str:
        lines = self._log.read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else "it said nothing"


@contextmanager
def serve(service: str, model: Path, settings: dict[str, str]) -> Iterator[Served]:
    """Runs `embedder` or `reranker` until the block ends; ready when it begins."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = int(probe.getsockname()[1])
    with tempfile.TemporaryDirectory(prefix="gpu-check-") as folder:
        log = Path(folder) / "log"
        env = {
            **environment(),
            "GPUCTL_PORT": str(port),
            "GPUCTL_MODEL_DIR": str(model),
            "GPUCTL_CACHE_ENTRIES": "0",
            **settings,
        }
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", f"gpuctl_serving.{service}"], env=env, stdout=output, stderr=output
            )
        served = Served(process, port, log)
        try:
            served.until(lambda health: health.get("status") in {"healthy", "degraded"}, _READY_SECONDS)
            yield served
        finally:
            served.stop()


def kill(pid: int) -> None:
    """As the kernel does when memory runs out."""
    os.kill(pid, signal.SIGKILL)


class Load:
    """Threads that ask again and again; each answer is kept with its time."""

    def __init__(self, ask: Callable[[int], tuple[int, str, bool]], threads: int) -> None:
        self._ask = ask
        self._ending = threading.Event()
        #: (when it was answered, status, device, whether the answer was right)
        self.answers: list[tuple[float, int, str, bool]] = []
        #: What `ask` raised: the thread that met it asks no more.
        self.failure: Exception | None = None
        self._threads = [threading.Thread(target=self._run, args=(n,), daemon=True) for n in range(threads)]

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        for thread in self._threads:
            thread.join(timeout=90)

    def _run(self, number: int) -> None:
        turn = number
        while not self._ending.is_set():
            try:
                status, device, right = self._ask(turn)
            except (OSError, http.client.HTTPException):
                status, device, right = 0, "", False
            except Exception as failure:
                self.failure = failure
                return
            self.answers.append((time.monotonic(), status, device, right))
            turn += len(self._threads)
