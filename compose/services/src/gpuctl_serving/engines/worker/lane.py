"""One conversation of the front with a worker: a socket, shared memory both ways, one call at a time."""

import math
import socket
import threading

import numpy as np

from gpuctl_serving.engines.protocol import Rows
from gpuctl_serving.engines.worker.arena import Arena, WriterArena
from gpuctl_serving.engines.worker.link import Link
from gpuctl_serving.engines.worker.records import Reply, Request


class Lane:
    """The front's end. Whoever calls holds `calling`."""

    def __init__(self) -> None:
        self.calling = threading.RLock()
        self.link: Link[Request, Reply] | None = None
        self.outgoing = WriterArena("gpuctl-tokens")
        self._incoming: Arena | None = None

    def open(self, end: socket.socket, record_seconds: float) -> None:
        """Talks over this socket from now on."""
        self.link = Link(end, Reply, record_seconds)

    def take(self, region: int) -> None:
        """The worker writes its rows to this region from now on."""
        fresh = Arena(region, writable=False)
        if self._incoming is not None:
            self._incoming.close()
        self._incoming = fresh

    def rows(self, shape: tuple[int, ...]) -> Rows:
        """What the worker wrote. Raises ValueError when it cannot have that shape."""
        if self._incoming is None or not 1 <= len(shape) <= 3:
            raise ValueError(f"an answer of shape {shape}")
        # A copy: the worker writes its next answer to the same place.
        return self._incoming.array(np.float32, math.prod(shape)).reshape(shape).copy()

    def hang_up(self) -> None:
        """Closes the socket; the worker sees it."""
        if self.link is not None:
            self.link.close()
            self.link = None

    def close(self) -> None:
        """Gives the memory back."""
        self.hang_up()
        self.outgoing.close()
        if self._incoming is not None:
            self._incoming.close()
            self._incoming = None
