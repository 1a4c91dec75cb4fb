"""The writer's lock: an flock the kernel gives back when its holder dies, and a note of who holds it."""

import fcntl
import os
from pathlib import Path

import msgspec

NAME = "writer.lock"
_NOTE_BYTES = 4096


class Holder(msgspec.Struct, frozen=True):
    """Who wrote last into the lock file. A hint: only the lock itself decides."""

    instance: str
    pid: int
    #: Where writes can be passed on to: `unix:/path`, `http://host:port`, or empty.
    address: str = ""


class WriterLock:
    """At most one process on this machine holds it."""

    def __init__(self, directory: Path, me: Holder) -> None:
        self._handle = os.open(directory / NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._me = me
        self.held = False

    def try_take(self) -> bool:
        """Takes it if it is free; never waits."""
        if not self.held:
            try:
                fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            self.held = True
            self._note(msgspec.json.encode(self._me))
        return True

    def release(self) -> None:
        """Gives it back, and empties the note first: a note that appears is a successor's."""
        if self.held:
            self._note(b"")
            fcntl.flock(self._handle, fcntl.LOCK_UN)
            self.held = False

    def holder(self) -> Holder | None:
        """The other process that noted itself last, alive or not; None when nobody did, or this one."""
        try:
            noted = msgspec.json.decode(os.pread(self._handle, _NOTE_BYTES, 0), type=Holder)
        except (msgspec.DecodeError, OSError):
            return None
        return None if noted == self._me else noted

    def close(self) -> None:
        """Ends with the lock given back."""
        self.release()
        os.close(self._handle)

    def _note(self, text: bytes) -> None:
        # A full disk must not stop a takeover: without the note, writes are passed to the named successor.
        try:
            os.ftruncate(self._handle, 0)
            os.pwrite(self._handle, text, 0)
        except OSError:
            return
