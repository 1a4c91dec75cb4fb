"""Bearer keys: several at once, exchanged without a restart, compared in constant time."""

import hashlib
import hmac
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from gpuctl_serving.kit.errors import LoadFailed
from gpuctl_serving.kit.logs import Log

log = Log(__name__)

#: The file is looked at this often at most, and only when somebody asks.
_LOOK_SECONDS = 0.25
#: A file that changed less than this ago may be half written.
_SETTLED_SECONDS = 0.5


class _Signature(NamedTuple):
    """What changes when a file is written or replaced."""

    inode: int
    size: int
    modified: int
    changed: int


class ApiKeys:
    """The keys of one file, one a line; empty lines and lines that start with `#` do not count.

    The file is read again when it changes. A change counts once it is half a second old, so that a file
    in the middle of being written gives nobody half a key. A file that is gone, unreadable or without a
    key leaves the keys as they were, and the log says so.
    """

    def __init__(
        self,
        path: Path,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._path = path
        self._clock, self._wall = clock, wall
        #: Told the number of keys, or None when a change was not taken over.
        self.on_change: Callable[[int | None], None] = lambda _: None
        self._seen = self._look()
        self._keys = read_keys(path)
        self._digests = _digests(self._keys)
        self._looked = self._clock()
        #: A signature that is not settled yet, and since when it is known.
        self._pending: tuple[_Signature | None, float] | None = None

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys themselves, for a service that asks another one of its environment."""
        self._refresh()
        return self._keys

    @property
    def digests(self) -> frozenset[bytes]:
        """The keys that are known now, as digests."""
        return frozenset(self._digests)

    def recognise(self, authorization: str) -> bytes | None:
        """The digest of the key in an `Authorization` header, or None. Compares with all of them, always."""
        self._refresh()
        scheme, _, key = authorization.partition(" ")
        # Digests have one length, so a comparison tells nothing about a key's length either.
        digest = hashlib.sha256(key.strip(" \t").encode("latin-1", "replace")).digest()
        found = False
        for known in self._digests:
            found |= hmac.compare_digest(known, digest)
        return digest if found and scheme.lower() == "bearer" else None

    def _refresh(self) -> None:
        now = self._clock()
        if now - self._looked < _LOOK_SECONDS:
            return
        self._looked = now
        signature = self._look()
        if signature == self._seen:
            self._pending = None
            return
        if self._settled(signature, now):
            self._pending = None
            self._reread(signature)

    def _settled(self, signature: _Signature | None, now: float) -> bool:
        if self._pending is None or self._pending[0] != signature:
            self._pending = (signature, now)
        if now - self._pending[1] >= _SETTLED_SECONDS:
            return True
        # Nobody asked for a while: its own times say how long it has been as it is.
        return signature is not None and self._wall() - signature.changed / 1e9 >= _SETTLED_SECONDS

    def _reread(self, signature: _Signature | None) -> None:
        try:
            keys = read_keys(self._path)
        except LoadFailed as failure:
            self._seen = signature
            log.warning("keys-kept", keys=len(self._keys), reason=str(failure))
            self.on_change(None)
            return
        if self._look() != signature:
            return
        self._seen = signature
        before, after = set(self._keys), set(keys)
        self._keys, self._digests = keys, _digests(keys)
        log.info("keys-changed", keys=len(after), added=len(after - before), removed=len(before - after))
        self.on_change(len(after))

    def _look(self) -> _Signature | None:
        try:
            found = self._path.stat()
        except OSError:
            return None
        return _Signature(found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def read_keys(path: Path) -> tuple[str, ...]:
    """The keys of the file. Raises LoadFailed when it cannot be read or holds no key."""
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as failure:
        raise LoadFailed(f"GPUCTL_API_KEYS_FILE={path} cannot be read: {_reason(failure)}") from failure
    keys = tuple(line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#"))
    if not keys:
        raise LoadFailed(
            f"GPUCTL_API_KEYS_FILE={path} holds no key. Write one key a line, or unset the variable."
        )
    return keys


def _reason(failure: OSError | UnicodeDecodeError) -> str:
    # What Python says about undecodable bytes would repeat a part of the file.
    return "it is not UTF-8" if isinstance(failure, UnicodeDecodeError) else str(failure)


def _digests(keys: tuple[str, ...]) -> list[bytes]:
    return [hashlib.sha256(key.encode()).digest() for key in keys]
