"""The socket between the front and its engine: framed records in order, sometimes with a descriptor."""

import os
import select
import socket
import struct
from typing import Generic, TypeVar

import msgspec

_HEADER = struct.Struct("!I")
#: Records are small; anything longer is not one.
_MOST_BYTES = 64 * 1024

Sent = TypeVar("Sent", bound=msgspec.Struct)
Received = TypeVar("Received")


class LinkClosed(Exception):
    """The other side is gone."""


class LinkBroken(Exception):
    """The other side sent what is no record."""


class Link(Generic[Sent, Received]):
    """One end. One thread at a time uses it."""

    def __init__(self, end: socket.socket, receives: object, record_seconds: float | None = None) -> None:
        """`record_seconds`: within which a record that was begun must be complete (else TimeoutError)."""
        self._socket = end
        end.settimeout(record_seconds)
        self._encoder = msgspec.msgpack.Encoder()
        self._decoder: msgspec.msgpack.Decoder[Received] = msgspec.msgpack.Decoder(receives)
        self._poll = select.poll()
        self._poll.register(end, select.POLLIN)

    def send(self, record: Sent, descriptor: int | None = None) -> None:
        """Sends a record; closes `descriptor` once it is on its way. Raises LinkClosed."""
        body = self._encoder.encode(record)
        data = _HEADER.pack(len(body)) + body
        try:
            if descriptor is not None:
                sent = socket.send_fds(self._socket, [data], [descriptor])
                data = data[sent:]
            self._socket.sendall(data)
        except (BrokenPipeError, ConnectionError) as gone:
            raise LinkClosed from gone
        finally:
            if descriptor is not None:
                os.close(descriptor)

    def wait(self, seconds: float) -> bool:
        """Whether something arrived, or the other side left, within `seconds`."""
        return bool(self._poll.poll(seconds * 1000))

    def receive(self) -> tuple[Received, int | None]:
        """Blocks for the next record and the descriptor beside it. Raises LinkClosed or LinkBroken."""
        found: list[int] = []
        try:
            (size,) = _HEADER.unpack(self._exactly(_HEADER.size, found))
            if size > _MOST_BYTES:
                raise LinkBroken(f"a record of {size} bytes")
            record = self._decoder.decode(self._exactly(size, found))
        except (msgspec.MsgspecError, UnicodeDecodeError) as wrong:
            _close_all(found)
            raise LinkBroken(str(wrong)) from wrong
        except (LinkClosed, LinkBroken):
            _close_all(found)
            raise
        _close_all(found[1:])
        return record, found[0] if found else None

    def _exactly(self, count: int, descriptors: list[int]) -> bytes:
        data = b""
        while len(data) < count:
            try:
                part, fds, flags, _ = socket.recv_fds(self._socket, count - len(data), 4)
            except ConnectionError as gone:
                raise LinkClosed from gone
            descriptors += fds
            if flags & socket.MSG_CTRUNC:
                # Without it we would go on reading the region before it: another batch's numbers.
                raise LinkBroken("a descriptor was lost on its way: this process has too many open files")
            if not part:
                raise LinkClosed
            data += part
        return data

    def close(self) -> None:
        """Closes this end; the other side sees it."""
        self._socket.close()


def _close_all(descriptors: list[int]) -> None:
    for fd in descriptors:
        os.close(fd)
