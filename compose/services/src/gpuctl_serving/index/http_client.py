"""A small HTTP/1.1 client on asyncio for one exchange, over TCP or a unix socket."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import httptools

_READ = 1 << 16
MAX_ANSWER = 256 * 1024 * 1024


class Unreachable(Exception):
    """Nobody answered the connection: nothing was sent."""


class ExchangeFailed(Exception):
    """The connection broke after sending began: the other side may have acted or not."""


@dataclass
class Answer:
    """A complete response; header names in lower case."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""


async def exchange(
    address: str, method: str, target: str, headers: Mapping[str, str], body: bytes, timeout_s: float
) -> Answer:
    """Sends one request to `unix:/path` or `http://host[:port][/prefix]` and reads the answer."""
    try:
        async with asyncio.timeout(timeout_s):
            return await _exchange(address, method, target, headers, body)
    except TimeoutError as late:
        raise ExchangeFailed(f"{address} did not answer within {timeout_s:g} s") from late


async def _exchange(
    address: str, method: str, target: str, headers: Mapping[str, str], body: bytes
) -> Answer:
    reader, writer, host, prefix = await _connect(address)
    try:
        lines = [f"{method} {prefix}{target} HTTP/1.1", f"host: {host}", "connection: close"]
        lines += [f"content-length: {len(body)}", *(f"{name}: {value}" for name, value in headers.items())]
        # No drain: an answer that comes before the body is sent in full (413) must be read, not waited out.
        writer.write("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body)
        return await _read(reader)
    except (OSError, httptools.HttpParserError, EOFError) as failure:
        raise ExchangeFailed(f"{address}: {failure or type(failure).__name__}") from failure
    finally:
        writer.close()


async def _connect(address: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter, str, str]:
    try:
        if address.startswith("unix:"):
            reader, writer = await asyncio.open_unix_connection(address.removeprefix("unix:"))
            return reader, writer, "localhost", ""
        parts = urlsplit(address)
        if parts.scheme != "http" or not parts.hostname:
            raise Unreachable(f"{address!r} is not an address; give http://host:port or unix:/path")
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port or 80)
        return reader, writer, parts.netloc.rpartition("@")[2], parts.path.rstrip("/")
    except (OSError, ValueError) as failure:
        raise Unreachable(f"{address}: {failure}") from failure


class _Response:
    """Collects what httptools parses."""

    def __init__(self) -> None:
        self.answer = Answer()
        self.complete = False
        self._chunks: list[bytes] = []
        self._size = 0

    def on_header(self, name: bytes, value: bytes) -> None:
        self.answer.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_body(self, chunk: bytes) -> None:
        self._size += len(chunk)
        if self._size > MAX_ANSWER:
            raise EOFError(f"the answer is larger than {MAX_ANSWER} bytes")
        self._chunks.append(chunk)

    def on_message_complete(self) -> None:
        self.answer.body = b"".join(self._chunks)
        self.complete = True


async def _read(reader: asyncio.StreamReader) -> Answer:
    response = _Response()
    parser = httptools.HttpResponseParser(response)
    while not response.complete:
        data = await reader.read(_READ)
        if not data:
            raise EOFError("the connection was closed before the answer was complete")
        parser.feed_data(data)
    response.answer.status = parser.get_status_code()
    return response.answer
