"""One HTTP connection: uvicorn's httptools protocol, and what draining without a lost request needs."""

import asyncio
import fcntl
import struct
import termios
from typing import Any

import orjson
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from gpuctl_serving.kit.errors import VALIDATION, ServiceError

#: A request line and headers longer than this are refused.
MAX_HEAD_BYTES = 64 * 1024


def _refusal(status: bytes, message: str) -> bytes:
    error = ServiceError(int(status[:3]), VALIDATION, message)
    body = orjson.dumps(error.body(""))
    return (
        b"HTTP/1.1 %b\r\ncontent-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%b"
        % (status, len(body), body)
    )


_TOO_LARGE = _refusal(
    b"431 Request Header Fields Too Large",
    "The headers of a request are limited to 64 KiB. Send what is long in the body.",
)
_NOT_HTTP = _refusal(
    b"400 Bad Request",
    "This is not HTTP/1.1. Send a plain HTTP/1.1 request; HTTPS and HTTP/2 end at a proxy in front.",
)


class Connection(HttpToolsProtocol):
    """Knows whether it is idle, and never closes on a request that the kernel already holds for it."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.last_used = self.loop.time()
        #: Since when the headers of a request are awaited; None between requests and from the body on.
        self._head_since: float | None = self.last_used
        self._in_message = False
        self._head_bytes = 0

    def data_received(self, data: bytes) -> None:
        """Feeds the parser; refuses endless headers."""
        self.last_used = self.loop.time()
        super().data_received(data)
        self._head_bytes = (
            self._head_bytes + len(data) if self._in_message and self._head_since is not None else 0
        )
        if self._head_bytes > MAX_HEAD_BYTES and not self.transport.is_closing():
            self.transport.write(_TOO_LARGE)
            self.transport.close()

    def send_400_response(self, msg: str) -> None:
        """Says that this is no HTTP; never into the middle of the answer to an earlier request."""
        if self.transport.is_closing():
            return
        if self.answering and self.cycle is not None:
            # What came before was a good request: it gets its answer, and nothing after it is read.
            self.cycle.keep_alive = False
            self.transport.pause_reading()
            return
        self.transport.write(_NOT_HTTP)
        self.transport.close()

    def on_message_begin(self) -> None:
        """First byte of a request."""
        self._in_message = True
        self._head_since = self.loop.time()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """From here on the app has the request."""
        self._head_since = None
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """The request was read to its end."""
        self._in_message = False
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """The answer was written."""
        self.last_used = self.loop.time()
        super().on_response_complete()

    def timeout_keep_alive_handler(self) -> None:
        """Idle for too long: closed, unless a request arrived this very moment."""
        if not self._unread():
            super().timeout_keep_alive_handler()

    @property
    def answering(self) -> bool:
        """Whether an answer is being made or written."""
        return self.cycle is not None and not self.cycle.response_complete

    def receiving(self, patience: float) -> bool:
        """Whether a request is arriving, and did move within the last `patience` seconds."""
        return self._in_message and self.loop.time() - self.last_used < patience

    def close_if_idle(self, since: float) -> None:
        """Closes it when nothing happened on it since that loop time."""
        if self.transport is None or self.answering or self.last_used > since or self._unread():
            return
        self.transport.close()

    def close_if_stalled(self, since: float) -> None:
        """Drops a client that has not sent what it began, or anything, since that loop time.

        Otherwise it would keep its connection for ever, and a pause from ending.
        """
        if self.transport is None or self.transport.is_closing():
            return
        in_head = self._head_since is not None and self._head_since < since
        in_body = self._in_message and self._head_since is None and self.last_used < since
        # While reading is paused it is the app that is slow.
        if (in_head and not self.answering) or (in_body and not self.flow.read_paused):
            self.transport.abort()

    def _unread(self) -> bool:
        sock = self.transport.get_extra_info("socket")
        if sock is None or self.transport.is_closing():
            return False
        try:
            waiting = fcntl.ioctl(sock.fileno(), termios.FIONREAD, b"\0\0\0\0")
        except OSError:
            return False
        return bool(struct.unpack("i", waiting)[0])
