"""A server that speaks just enough of Redis' protocol, and misbehaves as it is told."""

import asyncio
import contextlib
from typing import Literal

Mood = Literal[
    "well", "silent", "cut", "garbage", "torn-bulk", "huge-bulk", "error", "slow", "short", "stubborn"
]


class RespStub:
    """GET, MGET, SET and PING over a dictionary. `mood` may change at any time."""

    def __init__(self) -> None:
        self.mood: Mood = "well"
        self.held: dict[bytes, bytes] = {}
        #: Milliseconds each value was given.
        self.expiry: dict[bytes, int] = {}
        self.commands: list[list[bytes]] = []
        self.connections = 0
        self._server: asyncio.Server | None = None
        self._writers: list[asyncio.StreamWriter] = []

    async def start(self) -> str:
        """Listens; returns its URL."""
        self._server = await asyncio.start_server(self._client, "127.0.0.1", 0)
        return f"redis://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/0"

    async def stop(self) -> None:
        """Refuses connections and cuts those there are."""
        if self._server is not None:
            self._server.close()
        for writer in self._writers:
            writer.close()
        await asyncio.sleep(0)

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.append(writer)
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while True:
                count = int((await reader.readuntil(b"\r\n"))[1:])
                command = []
                for _ in range(count):
                    length = int((await reader.readuntil(b"\r\n"))[1:])
                    command.append((await reader.readexactly(length + 2))[:-2])
                self.commands.append(command)
                if not await self._misbehaved(command, writer):
                    writer.write(self._reply(command))
                await writer.drain()
        writer.close()

    async def _misbehaved(self, command: list[bytes], writer: asyncio.StreamWriter) -> bool:
        """True when the reply is not to be sent any more."""
        answers: dict[str, bytes] = {
            "garbage": b"HTTP/1.1 400 Bad Request\r\n\r\n",
            "torn-bulk": b"*1\r\n$100\r\nonly these",
            "huge-bulk": b"*1\r\n$99999999999\r\n",
            "error": b"-OOM command not allowed when used memory > 'maxmemory'.\r\n",
            "short": b"*0\r\n",
            "silent": b"",
        }
        if self.mood == "stubborn" and command[0] == b"MGET":
            await asyncio.sleep(0.05)
            return False
        if self.mood in answers:
            writer.write(answers[self.mood])
            return True
        if self.mood == "cut":
            writer.close()
            raise ConnectionResetError
        return False

    def _reply(self, command: list[bytes]) -> bytes:
        match command[0].upper():
            case b"PING":
                return b"+PONG\r\n"
            case b"MGET":
                return b"*%d\r\n" % (len(command) - 1) + b"".join(self._bulk(key) for key in command[1:])
            case b"SET":
                self.held[command[1]] = command[2]
                if len(command) == 5:
                    self.expiry[command[1]] = int(command[4])
                return b"+OK\r\n"
        return b"+OK\r\n"

    def _bulk(self, key: bytes) -> bytes:
        value = self.held.get(key)
        return b"$-1\r\n" if value is None else b"$%d\r\n%s\r\n" % (len(value), value)
