"""An HTTP server whose accepting can be switched on and off while it runs: public side and private."""

import asyncio
import contextlib
import socket
import time
from collections.abc import Callable
from email.utils import formatdate
from typing import cast

from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn._types import ASGI3Application
from uvicorn.config import Config
from uvicorn.server import ServerState

from gpuctl_serving.kit.connection import Connection

#: The queue of waiting connections is shared with the keeper; each `listen` call sets its length.
BACKLOG = 1024
#: After a pause, a kept connection without a request is closed then.
IDLE_GRACE_SECONDS = 2.0
#: Clients keep connections for seconds to a minute: outlasting them leaves the closing to the client.
KEEP_ALIVE_SECONDS = 75
#: A client gets so long to send the headers of a request, and may be silent so long within its body.
STALLED_SECONDS = 30.0
_POLL_SECONDS = 0.01
_CLOSE = (b"connection", b"close")


class HttpServer:
    """Serves an app on one listening socket, which stays open here whether or not it accepts."""

    def __init__(self, app: ASGIApp, listener: socket.socket, *, private: bool) -> None:
        self.listener = listener
        self.inflight = 0
        self._app = app
        self._private = private
        self._server: asyncio.Server | None = None
        self._closing: asyncio.Task[None] | None = None
        self._state = ServerState()
        self._config = Config(
            cast(ASGI3Application, self._answer),
            http=Connection,
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
        )
        self._config.load()
        self.tend()

    def tend(self) -> None:
        """Sets the Date header of answers to come, drops stalled clients; to be called every second."""
        for connection in list(self.connections):
            connection.close_if_stalled(connection.loop.time() - STALLED_SECONDS)
        self._state.default_headers = [(b"date", formatdate(time.time(), usegmt=True).encode())]

    @property
    def accepting(self) -> bool:
        """Whether new connections are taken from the listening socket."""
        return self._server is not None

    @property
    def connections(self) -> set[Connection]:
        """Open connections, idle ones included."""
        return cast("set[Connection]", self._state.connections)

    async def accept(self) -> None:
        """Takes connections from now on; undoes `pause`."""
        if self._closing is not None:
            self._closing.cancel()
            self._closing = None
        if self._server is None:
            loop = asyncio.get_running_loop()
            self._server = await loop.create_server(
                self._connection(loop), sock=self.listener.dup(), backlog=BACKLOG
            )

    def pause(self) -> None:
        """Takes no more connections; answers say `Connection: close`; idle ones are closed after 2 s."""
        if self._server is None:
            return
        self._server.close()
        self._server = None
        self._closing = asyncio.get_running_loop().create_task(self._close_idle())

    async def drain(self, seconds: float) -> bool:
        """Waits until no request is answered or arrives. False when time ran out or `accept` came first."""
        deadline = time.monotonic() + seconds
        while not self.accepting and self._busy():
            if time.monotonic() >= deadline:
                return False
            await asyncio.sleep(_POLL_SECONDS)
        return not self.accepting

    async def finish(self, seconds: float) -> bool:
        """Pauses, then waits for every connection to be gone. False when time ran out."""
        self.pause()
        deadline = time.monotonic() + seconds
        while self.connections or self.inflight:
            if time.monotonic() >= deadline:
                return False
            await asyncio.sleep(_POLL_SECONDS)
        return True

    async def close(self) -> None:
        """Ends it, dropping what is left."""
        self.pause()
        if self._closing is not None:
            self._closing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._closing
        for connection in list(self.connections):
            connection.transport.abort()
        self.listener.close()

    def _connection(self, loop: asyncio.AbstractEventLoop) -> Callable[[], Connection]:
        return lambda: Connection(self._config, self._state, {}, loop)

    def _busy(self) -> bool:
        return self.inflight > 0 or any(
            each.answering or each.receiving(IDLE_GRACE_SECONDS) for each in self.connections
        )

    async def _close_idle(self) -> None:
        loop = asyncio.get_running_loop()
        await asyncio.sleep(IDLE_GRACE_SECONDS)
        while True:
            await asyncio.sleep(0.1)
            since = loop.time() - IDLE_GRACE_SECONDS
            for connection in list(self.connections):
                connection.close_if_idle(since)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._private:
            scope["gpuctl.private"] = True
        self.inflight += 1
        try:
            await self._app(scope, receive, self._announcing(send))
        finally:
            self.inflight -= 1

    def _announcing(self, send: Send) -> Send:
        async def announce(message: Message) -> None:
            if self._server is None and message["type"] == "http.response.start":
                headers = [(name, value) for name, value in message.get("headers", ()) if name != _CLOSE[0]]
                message = {**message, "headers": [*headers, _CLOSE]}
            await send(message)

        return announce
