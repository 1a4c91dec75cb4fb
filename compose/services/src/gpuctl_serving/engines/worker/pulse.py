"""The heartbeat: a worker writes the time into a shared page, the front reads it without asking."""

import mmap
import os
import struct
import threading
import time
from collections.abc import Callable

from gpuctl_serving.engines.worker.arena import new_region

#: Between two beats: rare enough to cost nothing when idle, often enough to miss soon.
BEAT_SECONDS = 0.25
_STAMP = struct.Struct("=Q")


class Pulse:
    """One shared page that holds the time of the last beat, on the clock that every process shares."""

    def __init__(self, fd: int) -> None:
        """Maps `fd` and closes it."""
        try:
            self._page = mmap.mmap(fd, mmap.PAGESIZE)
        finally:
            os.close(fd)

    @staticmethod
    def new_page() -> int:
        """A descriptor of a page for both sides."""
        return new_region("gpuctl-pulse", mmap.PAGESIZE)

    def beat(self) -> None:
        """Writes the time."""
        _STAMP.pack_into(self._page, 0, time.monotonic_ns())

    def read(self) -> int:
        """Nanoseconds on the monotonic clock; 0 before the first beat."""
        return int(_STAMP.unpack_from(self._page, 0)[0])

    def late(self, limit: float) -> bool:
        """Whether the worker missed its beats for `limit` seconds. Takes a moment when it seems so.

        After both sides were frozen together (a paused container, a suspended machine) the stamp is old
        although nobody hangs: it is late only when the worker does not beat while we look.
        """
        seen = self.read()
        if time.monotonic_ns() - seen < limit * 1e9:
            return False
        until = time.monotonic() + 4 * BEAT_SECONDS
        while time.monotonic() < until:
            before = time.monotonic()
            time.sleep(BEAT_SECONDS / 5)
            if self.read() != seen:
                return False
            if time.monotonic() - before > BEAT_SECONDS * 2:
                # We were not running either.
                until = time.monotonic() + 4 * BEAT_SECONDS
        return True

    def close(self) -> None:
        """Unmaps the page."""
        self._page.close()


def keep_beating(pulse: Pulse, at_every_beat: Callable[[], None]) -> None:
    """Beats from a thread of its own until the process ends."""

    def run() -> None:
        while True:
            at_every_beat()
            pulse.beat()
            time.sleep(BEAT_SECONDS)

    threading.Thread(target=run, name="pulse", daemon=True).start()
