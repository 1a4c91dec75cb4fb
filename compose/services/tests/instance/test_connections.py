"""Connections one by one, in this process: which are closed, and which are not."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.types import Receive, Scope, Send

from gpuctl_serving.kit.connection import Connection
from gpuctl_serving.kit.traffic import HttpServer


async def answer_after_release(scope: Scope, receive: Receive, send: Send) -> None:
    """Reads the body; on /slow waits for ever."""
    while (await receive()).get("more_body"):
        pass
    if scope["path"] == "/slow":
        await asyncio.Event().wait()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


class Client:
    """One raw connection, and the server's view of it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, there: Connection) -> None:
        self.reader, self.writer, self.there = reader, writer, there

    async def send(self, data: bytes) -> None:
        """Sends, and gives the server a chance to read."""
        self.writer.write(data)
        await self.writer.drain()
        await asyncio.sleep(0.05)

    async def closed(self) -> bool:
        """Whether the server has ended it."""
        try:
            return await asyncio.wait_for(self.reader.read(1), 0.3) == b""
        except ConnectionError:
            return True
        except TimeoutError:
            return False


@asynccontextmanager
async def client() -> AsyncIterator[Client]:
    listener = socket.create_server(("127.0.0.1", 0))
    server = HttpServer(answer_after_release, listener, private=False)
    await server.accept()
    reader, writer = await asyncio.open_connection(*listener.getsockname())
    await asyncio.sleep(0.05)
    try:
        yield Client(reader, writer, next(iter(server.connections)))
    finally:
        writer.close()
        await server.close()


def test_a_client_that_never_sends_a_request_is_dropped() -> None:
    async def scenario() -> None:
        async with client() as one:
            one.there.close_if_stalled(one.there.loop.time() + 1)
            assert await one.closed()

    asyncio.run(scenario())


def test_a_client_that_stops_within_headers_or_body_is_dropped() -> None:
    async def scenario(begun: bytes) -> None:
        async with client() as one:
            await one.send(begun)
            one.there.close_if_stalled(one.there.last_used - 1)
            assert not await one.closed()
            one.there.close_if_stalled(one.there.loop.time() + 1)
            assert await one.closed()

    for begun in (b"GET / HT", b"POST / HTTP/1.1\r\ncontent-length: 5\r\n\r\nab"):
        asyncio.run(scenario(begun))


def test_a_client_that_waits_for_its_answer_is_not_dropped() -> None:
    async def scenario() -> None:
        async with client() as one:
            await one.send(b"GET /slow HTTP/1.1\r\nhost: a\r\n\r\n")
            one.there.close_if_stalled(one.there.loop.time() + 1)
            one.there.close_if_idle(one.there.loop.time() + 1)
            assert not await one.closed()

    asyncio.run(scenario())


def test_an_idle_connection_is_not_closed_on_a_request_the_kernel_already_has() -> None:
    async def scenario() -> None:
        async with client() as one:
            # Written without giving the server a chance to read: it is in the kernel's buffer now.
            one.writer.write(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
            one.there.close_if_idle(one.there.loop.time() + 1)
            assert (await asyncio.wait_for(one.reader.readline(), 5)).startswith(b"HTTP/1.1 200")

    asyncio.run(scenario())
