"""Clients that keep asking while things are switched and killed under them."""

import asyncio
import json
import select
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Self


@dataclass
class Tally:
    """What the clients saw."""

    ok: int = 0
    failed: list[str] = field(default_factory=list)
    answered_by: set[str] = field(default_factory=set)

    @property
    def refused(self) -> list[str]:
        """Failures to connect."""
        return [each for each in self.failed if "ConnectionRefused" in each]


class Connection:
    """A kept HTTP connection that looks for the server's end of it before each use, as good clients do."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._socket: socket.socket | None = None

    async def ask(self, path: str, tally: Tally, keep: bool) -> None:
        """One request; counted."""
        try:
            head, body = await asyncio.wait_for(self._exchange(path), 20)
            if not head.startswith(b"HTTP/1.1 200"):
                raise ValueError(head[:40])
            tally.ok += 1
            if path != "/stream":
                tally.answered_by.add(json.loads(body)["id"])
        except Exception as failure:
            tally.failed.append(f"{type(failure).__name__}: {failure}")
            self.close()
            return
        if not keep or b"connection: close" in head.lower():
            self.close()

    async def _exchange(self, path: str) -> tuple[bytes, bytes]:
        loop = asyncio.get_running_loop()
        if self._socket is not None and select.select([self._socket], [], [], 0)[0]:
            self.close()  # the server has closed it, or talks out of turn
        if self._socket is None:
            self._socket = socket.socket()
            self._socket.setblocking(False)
            await loop.sock_connect(self._socket, ("127.0.0.1", self._port))
        await loop.sock_sendall(self._socket, f"GET {path} HTTP/1.1\r\nhost: tiny\r\n\r\n".encode())
        head, _, body = (await self._until(b"", lambda b: b"\r\n\r\n" in b)).partition(b"\r\n\r\n")
        if b"chunked" in head:
            return head, await self._until(body, lambda b: b.endswith(b"0\r\n\r\n"))
        length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
        return head, await self._until(body, lambda b: len(b) >= length)

    async def _until(self, data: bytes, enough: Callable[[bytes], bool]) -> bytes:
        assert self._socket is not None
        while not enough(data):
            more = await asyncio.get_running_loop().sock_recv(self._socket, 65536)
            if not more:
                raise ConnectionResetError(f"closed after {len(data)} bytes of the answer")
            data += more
        return data

    def close(self) -> None:
        """Ends it."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None


class Load:
    """Runs clients in a thread of their own between enter and exit."""

    def __init__(
        self, port: int, *, clients: int, path: str = "/", keep: bool = True, per_second: float | None = None
    ) -> None:
        self.tally = Tally()
        self._arguments = (port, clients, path, keep, per_second)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))

    def __enter__(self) -> Self:
        self._thread.start()
        self.more(5)
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(30)

    def more(self, answers: int) -> None:
        """Waits for so many more requests to end."""
        wanted = self.tally.ok + len(self.tally.failed) + answers
        deadline = time.monotonic() + 20
        while self.tally.ok + len(self.tally.failed) < wanted:
            assert time.monotonic() < deadline, f"no progress: {self.tally}"
            time.sleep(0.01)

    async def _run(self) -> None:
        await asyncio.gather(*(self._client(number) for number in range(self._arguments[1])))

    async def _client(self, number: int) -> None:
        port, clients, path, keep, per_second = self._arguments
        connection = Connection(port)
        pause = clients / per_second if per_second else 0.0
        due = time.monotonic() + pause * number / clients
        while not self._stop.is_set():
            if per_second:
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                due += pause
            await connection.ask(path, self.tally, keep)
        connection.close()
