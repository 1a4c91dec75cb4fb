"""The cheapest client there is: it shares the cores with what it measures. HTTP/1.1 on kept connections."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

import orjson

#: Nobody's cache may help: what is measured is computing.
_HEAD = "POST {path} HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\ncache-control: no-store\r\n"


@dataclass(frozen=True)
class Load:
    """What a round gave: seconds for all of it, and milliseconds for each request in the order they were sent."""

    seconds: float
    latencies: list[float]


class Connection:
    """One kept connection."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def post(self, request: bytes) -> bytes:
        """The answer's body. Raises RuntimeError for any status but 200."""
        if self._reader is None or self._writer is None:
            self._reader, self._writer = await asyncio.open_connection(
                "127.0.0.1", self._port, limit=64 * 1024 * 1024
            )
        self._writer.write(request)
        head = (await self._reader.readuntil(b"\r\n\r\n")).lower()
        length = int(head.split(b"content-length:", 1)[1].split(b"\r\n", 1)[0])
        body = await self._reader.readexactly(length)
        if b" 200 " not in head.split(b"\r\n", 1)[0]:
            raise RuntimeError(f"{head!r} {body[:300]!r}")
        return body

    async def close(self) -> None:
        """Ends it."""
        if self._writer is not None:
            self._writer.close()


def request(path: str, content: object) -> bytes:
    """The bytes of a request, made before the clock starts."""
    body = orjson.dumps(content)
    return f"{_HEAD.format(path=path)}content-length: {len(body)}\r\n\r\n".encode() + body


def run(port: int, requests: Sequence[bytes], concurrency: int) -> Load:
    """Sends all requests, so many at a time."""
    return asyncio.run(_run(port, requests, concurrency))


def ask(port: int, path: str, content: object) -> object:
    """One request and its parsed answer."""
    return asyncio.run(_ask(port, path, content))


async def _ask(port: int, path: str, content: object) -> object:
    connection = Connection(port)
    try:
        return orjson.loads(await connection.post(request(path, content)))
    finally:
        await connection.close()


async def _run(port: int, requests: Sequence[bytes], concurrency: int) -> Load:
    latencies = [0.0] * len(requests)
    waiting = iter(range(len(requests)))

    async def client() -> None:
        connection = Connection(port)
        for at in waiting:
            sent = time.perf_counter()
            await connection.post(requests[at])
            latencies[at] = (time.perf_counter() - sent) * 1000
        await connection.close()

    started = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(concurrency)))
    return Load(time.perf_counter() - started, latencies)
