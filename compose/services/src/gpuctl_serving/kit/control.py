"""JSON lines over unix sockets: the control socket of an instance, and the keeper's.

The standard library alone, on any event loop; plain sockets rather than streams, because an answer may
carry a file descriptor.
"""

import asyncio
import contextlib
import json
import os
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

#: A request longer than this is an error, not memory.
MAX_LINE_BYTES = 64 * 1024
#: A line that was begun must be complete by then.
LINE_SECONDS = 10.0
#: A connection without any request is closed then.
IDLE_SECONDS = 600.0
ANSWER_SECONDS = 10.0
MAX_CONNECTIONS = 128

Json = dict[str, Any]


class Refused(Exception):
    """A request that is answered with `ok: false`. `code` is for programs, the message for people."""

    def __init__(self, code: str, message: str, **more: Any) -> None:
        super().__init__(message)
        self.code = code
        self.more = more

    def answer(self) -> Json:
        """The line sent back."""
        return {"ok": False, "error": self.code, "message": str(self), **self.more}


@dataclass(frozen=True)
class Answer:
    """What a request is answered with; `descriptor` travels beside it (SCM_RIGHTS) and stays open here."""

    body: Json
    descriptor: int | None = None


Handler = Callable[[Json], Awaitable[Answer]]


def bind_unix(path: Path, backlog: int = 128) -> socket.socket:
    """A listening unix socket, 0600. Replaces the file of a dead process, refuses that of a live one."""
    if _answers(path):
        raise FileExistsError(
            f"another process answers on {path}: end it first (`gpuctl status` shows what runs)"
        )
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        before = os.umask(0o177)
        try:
            listener.bind(str(path))
        finally:
            os.umask(before)
        listener.listen(backlog)
        listener.setblocking(False)
    except OSError:
        listener.close()
        raise
    return listener


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except BlockingIOError:
            return True  # its backlog is full: something listens, however slowly
    return True


class LineServer:
    """Answers one JSON object a line, in order, on every connection. Nothing a client sends can hurt it."""

    def __init__(self, listener: socket.socket, handle: Handler) -> None:
        self._listener = listener
        self._handle = handle
        self._tasks: set[asyncio.Task[None]] = set()
        self._accepting = asyncio.get_running_loop().create_task(self._accept())

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, _ = await loop.sock_accept(self._listener)
            except OSError:
                await asyncio.sleep(0.1)  # out of descriptors: others will be closed
                continue
            if len(self._tasks) >= MAX_CONNECTIONS:
                connection.close()
                continue
            connection.setblocking(False)
            task = loop.create_task(self._converse(connection))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _converse(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError, TimeoutError):
            buffer = b""
            while True:
                line, buffer = await self._line(connection, buffer)
                if line is None:
                    return
                answer = await self._answer(line)
                async with asyncio.timeout(ANSWER_SECONDS):
                    await _send(connection, answer)
                if answer.body.get("error") == "line-too-long":
                    return

    async def _line(self, connection: socket.socket, buffer: bytes) -> tuple[bytes | None, bytes]:
        loop = asyncio.get_running_loop()
        deadline: float | None = None
        while b"\n" not in buffer:
            if len(buffer) > MAX_LINE_BYTES:
                return buffer, b""
            if buffer and deadline is None:
                deadline = loop.time() + LINE_SECONDS
            async with asyncio.timeout_at(deadline or loop.time() + IDLE_SECONDS):
                data = await loop.sock_recv(connection, 16 * 1024)
            if not data:
                return None, b""
            buffer += data
        line, _, rest = buffer.partition(b"\n")
        return line, rest

    async def _answer(self, line: bytes) -> Answer:
        try:
            return await self._handle(_parse(line))
        except Refused as refused:
            return Answer(refused.answer())
        except TimeoutError:
            return Answer(Refused("timeout", "it took too long and was given up").answer())
        except Exception as failure:
            # One request that fails must never take the others, or the process, with it.
            return Answer(Refused("failed", f"{type(failure).__name__}: {failure}").answer())

    async def close(self) -> None:
        """Stops answering; requests being answered are given up."""
        tasks = [self._accepting, *self._tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._listener.close()


def _parse(line: bytes) -> Json:
    if len(line) > MAX_LINE_BYTES:
        raise Refused("line-too-long", f"a request is at most {MAX_LINE_BYTES} bytes on one line")
    try:
        request = json.loads(line)
    except (ValueError, RecursionError):
        raise Refused(
            "bad-request", 'a request is one JSON object on one line, like {"op":"hello"}'
        ) from None
    if not isinstance(request, dict) or not isinstance(request.get("op"), str):
        raise Refused("bad-request", 'a request needs an "op", like {"op":"hello"}')
    return request


async def _send(connection: socket.socket, answer: Answer) -> None:
    data = json.dumps(answer.body, separators=(",", ":")).encode() + b"\n"
    if answer.descriptor is not None:
        # The buffer of a socket that was answered in order is empty: the few bytes fit without waiting.
        sent = socket.send_fds(connection, [data], [answer.descriptor])
        data = data[sent:]
    await asyncio.get_running_loop().sock_sendall(connection, data)


async def ask(path: Path, request: Json, seconds: float) -> Json:
    """One request on a new connection. Raises OSError when nobody answers, TimeoutError, Refused."""
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(seconds):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.setblocking(False)
            await loop.sock_connect(connection, str(path))
            await loop.sock_sendall(connection, json.dumps(request).encode() + b"\n")
            buffer = b""
            while not buffer.endswith(b"\n"):
                data = await loop.sock_recv(connection, 256 * 1024)
                if not data:
                    raise ConnectionResetError(f"{path} closed the connection without an answer")
                buffer += data
    return _checked(buffer)


def ask_now(path: Path, request: Json, seconds: float) -> tuple[Json, int | None]:
    """The same without an event loop; also the descriptor that came along, which the caller must close."""
    received: list[int] = []
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(seconds)
        connection.connect(str(path))
        connection.sendall(json.dumps(request).encode() + b"\n")
        buffer = b""
        try:
            while not buffer.endswith(b"\n"):
                data, fds, _, _ = socket.recv_fds(connection, 256 * 1024, 4)
                received += fds
                if not data:
                    raise ConnectionResetError(f"{path} closed the connection without an answer")
                buffer += data
            answer = _checked(buffer)
        except BaseException:
            for fd in received:
                os.close(fd)
            raise
    for surplus in received[1:]:
        os.close(surplus)
    return answer, received[0] if received else None


def _checked(line: bytes) -> Json:
    try:
        answer = json.loads(line)
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        raise ConnectionError("the answer was not a JSON object")
    if answer.get("ok") is not True:
        message = str(answer.get("message", "it gave no reason"))
        more = {key: value for key, value in answer.items() if key not in ("ok", "error", "message")}
        raise Refused(str(answer.get("error", "refused")), message, **more)
    return answer
