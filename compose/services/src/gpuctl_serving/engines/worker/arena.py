"""Shared memory between the front and its engine: numbers are written once and read where they are."""

import contextlib
import mmap
import os
import tempfile
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

try:  # Linux; elsewhere a file without a name does the same.
    from fcntl import F_ADD_SEALS, F_GET_SEALS, F_SEAL_GROW, F_SEAL_SEAL, F_SEAL_SHRINK, fcntl

    _SEALS = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL
except ImportError:  # pragma: no cover - not Linux
    _SEALS = 0

Number = TypeVar("Number", bound=np.generic)

#: Pages that were never written cost nothing, so the first arena has room for most batches.
FIRST_BYTES = 1 << 20


class Arena:
    """One mapped region. Both sides map the same memory; a side that may only read says so."""

    def __init__(self, fd: int, *, writable: bool) -> None:
        """Maps `fd` and closes it. Raises OSError or ValueError when it cannot be mapped safely."""
        try:
            self.size = os.fstat(fd).st_size
            if _SEALS and fcntl(fd, F_GET_SEALS) & _SEALS != _SEALS:
                # Memory that its owner may shrink would end us with SIGBUS in the middle of a read.
                raise ValueError("shared memory whose size may change")
            access = mmap.ACCESS_WRITE if writable else mmap.ACCESS_READ
            self._map = mmap.mmap(fd, self.size, access=access)
        finally:
            os.close(fd)

    def array(self, dtype: type[Number], count: int, offset: int = 0) -> NDArray[Number]:
        """`count` numbers from a byte on, where they are. Raises ValueError when they are not all inside."""
        end = offset + count * np.dtype(dtype).itemsize
        if count < 0 or offset < 0 or end > self.size:
            raise ValueError(f"{count} numbers from byte {offset} do not fit {self.size} shared bytes")
        return np.frombuffer(self._map, dtype, count, offset)

    def close(self) -> None:
        """Unmaps it. While an array still looks at it, that is left to the last such array."""
        with contextlib.suppress(BufferError):
            self._map.close()


class WriterArena:
    """The side that writes: grows by making a new region, which the reader gets with the next message."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._arena: Arena | None = None
        self._unsent: int | None = None

    def reserve(self, size: int) -> Arena:
        """A region of at least `size` bytes; what an earlier one held is gone when it had to grow."""
        if self._arena is None or self._arena.size < size:
            self._replace(max(FIRST_BYTES, 1 << (size - 1).bit_length()))
        assert self._arena is not None  # noqa: S101 - for mypy: `_replace` made it
        return self._arena

    def take_unsent(self) -> int | None:
        """The descriptor that the reader does not have yet; the caller sends and closes it."""
        unsent, self._unsent = self._unsent, None
        return unsent

    def _replace(self, size: int) -> None:
        self.close()
        fd = new_region(self._name, size)
        try:
            self._arena = Arena(os.dup(fd), writable=True)
        except BaseException:
            os.close(fd)
            raise
        self._unsent = fd

    def close(self) -> None:
        """Gives the memory back."""
        if self._arena is not None:
            self._arena.close()
            self._arena = None
        if (unsent := self.take_unsent()) is not None:
            os.close(unsent)


def new_region(name: str, size: int) -> int:
    """A descriptor of `size` zero bytes that lives as long as somebody holds or maps it."""
    if not _SEALS:  # pragma: no cover - not Linux
        with tempfile.TemporaryFile() as file:
            file.truncate(size)
            return os.dup(file.fileno())
    fd = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(fd, size)
        fcntl(fd, F_ADD_SEALS, _SEALS)
    except BaseException:
        os.close(fd)
        raise
    return fd
