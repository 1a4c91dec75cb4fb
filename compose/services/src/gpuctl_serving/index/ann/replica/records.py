"""What the front and the replica's process say to each other, in frames over a socket."""

import socket
import struct
from typing import Any

import msgspec

from gpuctl_serving.index.ann.replica.told import Reason

_HEADER = struct.Struct("!I")
#: The largest frame: 2048 queries of 16,384 dimensions.
_MOST_BYTES = 160 * 1024 * 1024


class Start(msgspec.Struct, frozen=True):
    """The process's only argument."""

    front: int
    socket: int
    temp_mib: int
    service: str
    log_level: str


class Load(msgspec.Struct, frozen=True, tag=True):
    """Clone this file; what the namespace had before is dropped first."""

    ns: int
    #: Named by every search, so that no answer is of another clone than its asker thinks.
    clone: int
    path: str
    float16_tables: bool


class Drop(msgspec.Struct, frozen=True, tag=True):
    """Forget a namespace's clone."""

    ns: int


class Search(msgspec.Struct, frozen=True, tag=True):
    """The nearest `k` of each query; nprobe 0 for an index without lists."""

    ns: int
    clone: int
    k: int
    nprobe: int
    dimension: int
    queries: bytes


class Ready(msgspec.Struct, frozen=True, tag=True):
    """The device was opened."""

    device: str


class Done(msgspec.Struct, frozen=True, tag=True):
    """A Load or a Drop is over."""


class Found(msgspec.Struct, frozen=True, tag=True):
    """Ids as int64, `k` for each query, -1 where there are fewer."""

    ids: bytes


class Failed(msgspec.Struct, frozen=True, tag=True):
    """It could not be done; the process can still be asked other things."""

    reason: Reason
    message: str


Request = Load | Drop | Search
Reply = Ready | Done | Found | Failed


class Closed(Exception):
    """The other side is gone."""


class Wire:
    """One end of the socket. One thread at a time uses it."""

    def __init__(self, end: socket.socket, receives: Any) -> None:
        self._end = end
        self._encoder = msgspec.msgpack.Encoder()
        self._decoder = msgspec.msgpack.Decoder(receives)

    def send(self, record: Request | Reply, seconds: float | None = None) -> None:
        """Raises Closed, or TimeoutError when the other side has not read it in time."""
        body = self._encoder.encode(record)
        try:
            self._end.settimeout(seconds)
            self._end.sendall(_HEADER.pack(len(body)) + body)
        except TimeoutError:
            raise
        except OSError as gone:
            raise Closed from gone

    def receive(self, seconds: float | None = None) -> Any:
        """The next record. Raises Closed, or TimeoutError when none comes in time."""
        self._end.settimeout(seconds)
        (size,) = _HEADER.unpack(self._exactly(_HEADER.size))
        if size > _MOST_BYTES:
            raise Closed
        try:
            return self._decoder.decode(self._exactly(size))
        except msgspec.MsgspecError as wrong:
            raise Closed from wrong

    def _exactly(self, count: int) -> bytes:
        data = bytearray()
        while len(data) < count:
            try:
                part = self._end.recv(min(count - len(data), 1 << 20))
            except TimeoutError:
                raise
            except OSError as gone:
                raise Closed from gone
            if not part:
                raise Closed
            data += part
        return bytes(data)

    def close(self) -> None:
        """Closes this end."""
        self._end.close()
