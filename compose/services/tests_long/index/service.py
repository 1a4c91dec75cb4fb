"""An index process under load: base64 batches in, single searches out, what it says of itself."""

import asyncio
import base64
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx
import numpy as np
import orjson
from tests.index.instances import ROOT, public_socket, wait_until
from tests.index.support import BASE

from gpuctl_serving.index.vectors import Vectors


class IndexProcess:
    """`python -m gpuctl_serving.index` over a directory of its own, between `with` and its end."""

    def __init__(
        self,
        directory: Path,
        program: Sequence[str] = ("gpuctl_serving.index",),
        before: Sequence[str] = (),
        **settings: str,
    ) -> None:
        """`before`: a command that runs the service elsewhere as this very child."""
        with public_socket() as free:
            self.port = free.getsockname()[1]
        env = {name: value for name, value in os.environ.items() if not name.startswith("GPUCTL_")}
        env |= {
            "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}",
            "GPUCTL_INDEX_DIR": str(directory / "index"),
            "GPUCTL_PORT": str(self.port),
            "GPUCTL_LOG_LEVEL": "warning",
            **settings,
        }
        self._log = (directory / "service.log").open("ab")
        self._child = subprocess.Popen(
            [*before, sys.executable, "-m", *program], env=env, stdout=self._log, stderr=self._log
        )
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=300)

    def __enter__(self) -> "IndexProcess":
        wait_until(self._ready, "the index is ready", 600)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._child.terminate()
        self._child.wait(60)
        self._log.close()
        self.http.close()

    @property
    def ended(self) -> int | None:
        """Its exit status; None while it runs."""
        return self._child.poll()

    def kill(self) -> None:
        """SIGKILL, and waits until it is gone."""
        self._child.kill()
        self._child.wait(60)

    def _ready(self) -> bool:
        assert self._child.poll() is None, "the index ended"
        try:
            return self.http.get("/health/ready").status_code == 200
        except httpx.TransportError:
            return False

    def stats(self) -> dict[str, Any]:
        """The statistics."""
        body: dict[str, Any] = self.http.get(f"{BASE}/stats").json()
        return body

    def settled(self) -> bool:
        """Whether every namespace has the type of its size."""
        said = self.stats()
        waiting = [one["reason"] for one in said["indexes"].values() if one["reason"]]
        return not waiting and said["promotion"]["running"] is None

    def memory_mib(self, key: str) -> int:
        """`VmRSS` or `VmHWM` of the process."""
        lines = Path(f"/proc/{self._child.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(key + ":")) // 1024

    def add(self, bodies: Sequence[bytes]) -> float:
        """Sends prepared adds one after the other; seconds."""
        began = time.perf_counter()
        for body in bodies:
            answer = self.http.post(f"{BASE}/add", content=body)
            assert answer.status_code == 200, answer.text
        return time.perf_counter() - began

    def searched(self, bodies: Sequence[bytes], at_once: int, until: Callable[[int], bool]) -> list[float]:
        """Milliseconds of each search, by so many clients; `until` is told how many were asked."""
        return asyncio.run(_search_all(self.port, bodies, at_once, until))


async def _search_all(
    port: int, bodies: Sequence[bytes], at_once: int, until: Callable[[int], bool]
) -> list[float]:
    times: list[float] = []

    async def client(first: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        at = first
        while not until(len(times)):
            body = bodies[at % len(bodies)]
            at += at_once
            began = time.perf_counter()
            head = f"POST {BASE}/search HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n\r\n"
            writer.write(head.encode() + body)
            answered = await reader.readuntil(b"\r\n\r\n")
            assert answered.startswith(b"HTTP/1.1 200"), answered
            size = int(answered.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            await reader.readexactly(size)
            times.append((time.perf_counter() - began) * 1000)
        writer.close()

    await asyncio.gather(*(client(first) for first in range(at_once)))
    return times


def subjects(count: int, dimension: int, seed: int) -> Vectors:
    """Unit vectors as embeddings lie: few dimensions carry most, around some thousand subjects."""
    shape = np.random.default_rng(0)
    lift = shape.standard_normal((40, dimension)).astype(np.float32)
    centres = shape.standard_normal((3000, 40)).astype(np.float32)
    random = np.random.default_rng(seed)
    made = np.empty((count, dimension), np.float32)
    for start in range(0, count, 20_000):
        size = min(20_000, count - start)
        inner = centres[random.integers(3000, size=size)]
        inner = inner + 1.2 * random.standard_normal((size, 40)).astype(np.float32)
        rows = inner @ lift + 1.5 * random.standard_normal((size, dimension)).astype(np.float32)
        made[start : start + size] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return made


def add_bodies(rows: Vectors, first: int = 0, batch: int = 2000) -> list[bytes]:
    """Requests that add rows under their numbers as ids."""
    return [
        orjson.dumps(
            {
                "items": [
                    {"id": first + at, "vectorBase64": base64.b64encode(rows[at].tobytes()).decode()}
                    for at in range(start, min(start + batch, len(rows)))
                ]
            }
        )
        for start in range(0, len(rows), batch)
    ]


def search_bodies(rows: Vectors, k: int = 10) -> list[bytes]:
    """One search for each row, for ids and scores."""
    return [
        orjson.dumps({"vectorBase64": base64.b64encode(row.tobytes()).decode(), "k": k, "include": []})
        for row in rows
    ]
