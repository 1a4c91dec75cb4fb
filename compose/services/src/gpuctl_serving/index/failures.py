"""What errors of the database and of its disk mean: to whoever starts the index, and to a client."""

import errno
import shutil
import sqlite3
from pathlib import Path

from gpuctl_serving.index.durable.broken import LogBroken
from gpuctl_serving.kit.errors import LoadFailed, ServiceError, unavailable

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
#: What SQLite adds to its shared memory at once.
_SHARED_MEMORY_BYTES = 32 * 1024


class Damaged(LoadFailed):
    """The database is not what was written. `detail` says how that shows."""

    def __init__(self, path: Path, detail: str) -> None:
        super().__init__(_corrupt(path, detail))
        self.detail = detail


def _corrupt(path: Path, detail: str) -> str:
    return (
        f"The index database {path} is damaged ({detail}), and there is no snapshot or log to make it again "
        "from. Move it and its -wal and -shm files aside and restore a backup (`gpuctl index restore`), or "
        "index the documents again with `gpuctl index add`."
    )


def load_failure(path: Path, failure: sqlite3.Error) -> LoadFailed:
    """What an error of the database means at load."""
    code = getattr(failure, "sqlite_errorcode", 0) & 0xFF
    if code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_IOERR) and (
        code == sqlite3.SQLITE_FULL or _is_full(path)
    ):
        return _full_at_load(path)
    if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM, sqlite3.SQLITE_IOERR):
        return LoadFailed(
            f"The index database {path} cannot be written ({failure}). "
            "Check that GPUCTL_INDEX_DIR is a writable directory on a local disk."
        )
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_NOMEM):
        return LoadFailed(f"The index database {path} cannot be opened: {failure}.")
    # A table that is not there, a text that is not UTF-8: these tables were written whole.
    return Damaged(path, str(failure))


def disk_failure(directory: Path, failure: OSError) -> LoadFailed:
    """What an error of the file system means at load."""
    if failure.errno in _NO_ROOM:
        return _full_at_load(directory)
    return LoadFailed(
        f"The index directory {directory} cannot be used: {failure}. Check GPUCTL_INDEX_DIR, that disk, and "
        "who may write to it."
    )


def _full_at_load(path: Path) -> LoadFailed:
    return LoadFailed(f"The disk of {path} is full. Free space on it, then start again: nothing is lost.")


def _is_full(path: Path) -> bool:
    """SQLite calls it an I/O error when its shared memory finds no room."""
    try:
        return shutil.disk_usage(path.parent).free < _SHARED_MEMORY_BYTES
    except OSError:
        return False


def request_error(failure: sqlite3.Error) -> ServiceError:
    """What a client hears when the database refuses: nothing was stored."""
    code = getattr(failure, "sqlite_errorcode", 0) & 0xFF
    if code == sqlite3.SQLITE_FULL:
        return _no_room()
    if code == sqlite3.SQLITE_READONLY:
        return unavailable("The index's disk is read-only now: nothing of this request was stored.", 30)
    return unavailable(
        f"The index's database refused ({failure}): nothing of this request was acknowledged.", 5
    )


def write_error(failure: Exception) -> Exception:
    """What a client hears when a change could not be committed."""
    if isinstance(failure, sqlite3.Error):
        return request_error(failure)
    if isinstance(failure, LogBroken):
        return unavailable(
            f"The index's log cannot be relied on ({failure}), so nothing is acknowledged. "
            "This request may be stored or not. Look at the disk, then restart the "
            "index: it compares everything at start.",
            30,
        )
    if isinstance(failure, OSError):
        return (
            _no_room()
            if failure.errno in _NO_ROOM
            else unavailable(
                f"The index's disk refused ({failure.strerror or failure}): nothing was stored.",
                5,
            )
        )
    return failure


def _no_room() -> ServiceError:
    return ServiceError(
        507,
        "Unhealthy",
        "The disk of the index is full: nothing of this request was stored. Free space, then send it again.",
        reason="unavailable",
    )
