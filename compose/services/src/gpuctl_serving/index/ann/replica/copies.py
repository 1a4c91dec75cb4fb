"""Files in which an index goes to the replica's process: gone once read, or by the next start."""

import fcntl
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_BEGIN, _END = "replica-", ".faiss"


@contextmanager
def copy_file(directory: Path) -> Iterator[Path]:
    """An empty file to write to. Raises OSError when there is no room for it."""
    with tempfile.NamedTemporaryFile(dir=directory, prefix=_BEGIN, suffix=_END) as file:
        # The kernel gives it back with the process: what is not locked belongs to nobody.
        fcntl.flock(file, fcntl.LOCK_SH)
        yield Path(file.name)


def clear(directory: Path) -> None:
    """Removes what a kill left, and not what another instance on the same directory is using."""
    for left in directory.glob(f"{_BEGIN}*{_END}"):
        try:
            with left.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                left.unlink(missing_ok=True)
        except (FileNotFoundError, BlockingIOError):
            continue
