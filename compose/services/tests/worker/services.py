"""Services as real processes, for tests of what is between a front and its workers."""

import contextlib
import http.client
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import orjson

SOURCES = Path(__file__).parents[2] / "src"


@dataclass(frozen=True)
class Answered:
    """One answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> object:
        """The body, parsed."""
        return orjson.loads(self.body)


@dataclass
class ServiceProcess:
    """A running service without a keeper, and what it printed."""

    process: "subprocess.Popen[bytes]"
    port: int
    log: Path

    @property
    def pid(self) -> int:
        """The front."""
        return self.process.pid

    def workers(self) -> list[int]:
        """Pids of its living workers."""
        found = []
        for file in Path(f"/proc/{self.pid}/task").glob("*/children"):
            found += [int(pid) for pid in file.read_text().split()]
        return found

    def workers_of(self, engine: str) -> list[int]:
        """Pids of its living workers that run this engine."""
        found = []
        for pid in self.workers():
            with contextlib.suppress(OSError):
                if engine.encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
                    found.append(pid)
        return found

    def ask(self, method: str, path: str, body: object = None, timeout: float = 30) -> Answered:
        """One request on a connection of its own. Raises OSError."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            connection.request(method, path, None if body is None else orjson.dumps(body))
            response = connection.getresponse()
            return Answered(response.status, dict(response.headers), response.read())
        finally:
            connection.close()

    def until(self, path: str, status: int = 200, seconds: float = 30) -> Answered:
        """Asks until that is the answer."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and self.process.poll() is None:
            try:
                if (answer := self.ask("GET", path)).status == status:
                    return answer
            except OSError:
                pass
            time.sleep(0.05)
        raise AssertionError(f"{path} never answered {status}:\n{self.log.read_text()[-4000:]}")


@contextmanager
def running(
    service: str,
    model: Path,
    log: Path,
    *,
    code: Path = SOURCES,
    options: Sequence[str] = (),
    **env: str,
) -> Iterator[ServiceProcess]:
    """Starts `python -m gpuctl_serving.<service>`; kills it at the end."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    given = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(code),
        "GPUCTL_MODEL_DIR": str(model),
        "GPUCTL_PORT": str(port),
    } | env
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, *options, "-m", f"gpuctl_serving.{service}"],
            env=given,
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    try:
        yield ServiceProcess(process, port, log)
    finally:
        process.kill()
        process.wait(10)
