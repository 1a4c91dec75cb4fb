"""Forks processes that write, make a snapshot, and die at the n-th call that changes a file.

Forked, not started anew: the libraries are loaded once, so that every n can be tried in seconds.
"""

import itertools
import os
import shutil
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gpuctl_serving.index.maintenance import Maintenance
from tests.index import direct

#: Every function of `os` by which the snapshot changes something on disk.
CALLS = (
    "open",
    "write",
    "fsync",
    "fdatasync",
    "ftruncate",
    "rename",
    "replace",
    "unlink",
    "mkdir",
    "rmdir",
    "chmod",
)
_real_write = os.write


class Dies:
    """Counts the calls of one thread, and kills the process before the n-th."""

    def __init__(self, at: int) -> None:
        self.at, self.seen = at, 0
        self._thread = threading.get_ident()

    def step(self) -> None:
        """One more."""
        if threading.get_ident() != self._thread:
            return
        self.seen += 1
        if self.seen == self.at:
            os.kill(os.getpid(), signal.SIGKILL)

    def around(self, call: Callable[..., Any]) -> Callable[..., Any]:
        """The call with the count before it."""

        def counted(*arguments: Any, **more: Any) -> Any:
            self.step()
            return call(*arguments, **more)

        return counted


def child(directory: Path, at: int) -> None:
    """Writes beside a snapshot; what was acknowledged goes to a file beside the directory."""
    core = direct.open_core(directory)
    heard = os.open(directory.with_suffix(".acks"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    stop = threading.Event()

    def keep_writing() -> None:
        for number in itertools.count():
            if stop.is_set():
                return
            direct.add(core, [direct.item(f"during{number}", [1.0, number, 3], {"kind": 0})])
            _real_write(heard, f"during{number}\n".encode())

    writer = threading.Thread(target=keep_writing)
    writer.start()
    dies = Dies(at)
    for name in CALLS:
        setattr(os, name, dies.around(getattr(os, name)))
    Maintenance(core).snapshot(lambda phase, done, of: dies.step())
    stop.set()
    writer.join()
    direct.close(core)


def main(base: Path, work: Path, first: int, step: int, run: Callable[[Path, int], None] = child) -> None:
    """Tries n = first, first + step, ... until a child comes through; says each n."""
    for at in itertools.count(first, step):
        directory = work / f"n{at}"
        shutil.copytree(base, directory)

        pid = os.fork()
        if pid == 0:
            try:
                run(directory, at)
            except BaseException as failure:
                _real_write(2, repr(failure).encode())
                os._exit(3)
            os._exit(0)
        _, status = os.waitpid(pid, 0)
        _real_write(1, f"{at} {status}\n".encode())
        if status != signal.SIGKILL:
            return


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
