"""One place to kill index services in: a nursery, an address and a working directory of its own."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import httpx
from tests.index.instances import ROOT, wait_until
from tests.index.support import BASE

from tests_long.durability.acknowledged import DIMENSION, NLIST

SETTINGS = {
    "GPUCTL_INDEX_GENERATION": f"killed|{DIMENSION}",
    "GPUCTL_INDEX_TYPE": "IVFFlat",
    "GPUCTL_INDEX_NLIST": str(NLIST),
    "GPUCTL_INDEX_SEGMENT_MB": "1",
    "GPUCTL_INDEX_SNAPSHOT_SECONDS": "0",
    "GPUCTL_INDEX_SNAPSHOT_WRITES": "0",
    "GPUCTL_MAX_ITEMS": "2048",
    "GPUCTL_LOG_LEVEL": "info",
    "GPUCTL_THREADS": "1",
}


@dataclass
class Service:
    """A running index service."""

    pid: int
    address: str
    http: httpx.Client

    def stats(self) -> dict[str, Any]:
        """The statistics."""
        body: dict[str, Any] = self.http.get(f"{BASE}/stats").json()
        return body

    def post(self, route: str, body: Any = None) -> Any:
        """The answer's body; fails the test unless it is a 200."""
        answer = self.http.post(f"{BASE}/{route}", json=body or {})
        assert answer.status_code == 200, answer.text
        return answer.json()


class Bench:
    """Used by one thread."""

    def __init__(self, number: int, directory: Path) -> None:
        directory.mkdir()
        # An address of its own: no other bench takes the port between its choice and its use.
        self.host, self.directory = f"127.0.0.{2 + number}", directory
        self._log = directory / "service.log"
        env = {name: value for name, value in os.environ.items() if not name.startswith("GPUCTL_")}
        env |= {"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        self._nursery = subprocess.Popen(
            [sys.executable, "-m", "tests_long.durability.nursery"],
            env=env,
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def close(self) -> None:
        """Ends the nursery."""
        self._nursery.communicate(timeout=30)

    def fork(self, **order: Any) -> int:
        """Gives an order; the child's process number."""
        assert self._nursery.stdin is not None
        self._log.write_text("")
        self._nursery.stdin.write(json.dumps({"log": str(self._log), **order}) + "\n")
        self._nursery.stdin.flush()
        return self._heard("pid")

    def gone(self) -> int:
        """Waits for the child's end; its exit status, or the signal that ended it with a minus."""
        return self._heard("gone")

    def _heard(self, what: str) -> int:
        assert self._nursery.stdout is not None
        said, number = self._nursery.stdout.readline().split()
        assert said == what, (said, number)
        return int(number)

    def log(self) -> str:
        """What the child wrote."""
        return self._log.read_text(errors="replace")

    @contextmanager
    def service(self, index: Path) -> Iterator[Service]:
        """A service over a directory, killed in the end if it still runs."""
        port = _free_port(self.host)
        env = {
            **SETTINGS,
            "GPUCTL_INDEX_DIR": str(index),
            "GPUCTL_HOST": self.host,
            "GPUCTL_PORT": str(port),
        }
        pid = self.fork(env=env)
        address = f"http://{self.host}:{port}"
        try:
            # Nothing is encrypted here, and reading all certificates takes longer than a start.
            with httpx.Client(base_url=address, timeout=60, verify=False) as http:  # noqa: S501
                service = Service(pid, address, http)
                wait_until(lambda: _listens(self.host, port, self.log), "the index listens", 60)
                wait_until(lambda: _ready(service, self.log), "the index is ready", 60)
                yield service
        finally:
            os.kill(pid, signal.SIGKILL)
            self.gone()

    def copy(self, of: Path, name: str) -> Path:
        """A copy of a prepared directory."""
        to = self.directory / name
        shutil.rmtree(to, ignore_errors=True)
        shutil.copytree(of, to)
        return to


def _free_port(host: str) -> int:
    with socket.create_server((host, 0)) as listener:
        return int(listener.getsockname()[1])


def _listens(host: str, port: int, log: Callable[[], str]) -> bool:
    assert "load-failed" not in log(), log()[-2000:]
    with socket.socket() as attempt:
        return attempt.connect_ex((host, port)) == 0


def _ready(service: Service, log: Callable[[], str]) -> bool:
    assert "load-failed" not in log(), log()[-2000:]
    return service.http.get("/health/ready").status_code == 200


class Benches:
    """As many as there are processors, each used by one thread at a time."""

    def __init__(self, directory: Path) -> None:
        self.count = max(2, min(8, os.cpu_count() or 2))
        self._all = [Bench(number, directory / f"bench{number}") for number in range(self.count)]
        self._free: SimpleQueue[Bench] = SimpleQueue()
        for one in self._all:
            self._free.put(one)

    @contextmanager
    def one(self) -> Iterator[Bench]:
        """A bench until the end of the block."""
        bench = self._free.get()
        try:
            yield bench
        finally:
            self._free.put(bench)

    def close(self) -> None:
        """Ends the nurseries."""
        for one in self._all:
            one.close()
