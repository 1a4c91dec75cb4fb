"""Forks index services and tools that are to be killed: they load their libraries once for all of them.

`python -m tests_long.durability.nursery`; each line on stdin is an order, each child is told by its process
number and, once it is gone, by its exit status, or by the signal that ended it with a minus.
"""

import ctypes
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from gpuctl_serving.index import tool
from gpuctl_serving.index.__main__ import run
from gpuctl_serving.index.maintenance import Maintenance
from gpuctl_serving.index.worker import Worker

_PR_SET_PDEATHSIG, _PR_SET_NAME, _PR_SET_PTRACER = 1, 15, 0x59616D61
_ANYBODY = ctypes.c_ulong(-1)
_libc = ctypes.CDLL(None)


def say(line: str) -> None:
    """One line to the test."""
    os.write(1, f"{line}\n".encode())


def named(kind: type[threading.Thread], name: str) -> None:
    """Gives the kernel a thread's name: Python 3.11 keeps it to itself, and one thread is to be traced."""
    run_it: Callable[[threading.Thread], None] = kind.run

    def renamed(thread: threading.Thread) -> None:
        _libc.prctl(_PR_SET_NAME, name.encode())
        run_it(thread)

    kind.run = renamed  # type: ignore[method-assign, assignment]


def serve(env: dict[str, str]) -> None:
    """The service as `python -m gpuctl_serving.index` runs it; never returns."""
    os.environ.update(env)
    run()


def work(arguments: list[str], go: Path) -> int:
    """The offline tool, once a file says that somebody watches."""
    while not go.exists():
        time.sleep(0.002)
    return tool.main(arguments)


def child(order: dict[str, object]) -> None:
    """What a fork does with its order; its output goes to a file."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    output = os.open(str(order["log"]), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.close(output)
    # Where Yama lets only parents trace, a brother may.
    _libc.prctl(_PR_SET_PTRACER, _ANYBODY, 0, 0, 0)
    env, arguments = order.get("env"), order.get("tool")
    if isinstance(env, dict):
        serve(env)
    assert isinstance(arguments, list)
    status = work(arguments, Path(str(order["go"])))
    sys.stdout.flush()
    os._exit(status)


def main() -> None:
    """One child after the other. A test that is killed leaves nothing running."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    named(Maintenance, "index-upkeep")
    named(Worker, "index-writer")
    before = 0
    for line in sys.stdin:
        if before:
            os.waitpid(before, 0)
        pid = before = os.fork()
        if pid == 0:
            try:
                child(json.loads(line))
            finally:
                os._exit(70)
        say(f"pid {pid}")
        # Its number stays its own until the next order: whoever signals it cannot hit another process.
        gone = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        assert gone is not None
        say(f"gone {-gone.si_status if gone.si_code == os.CLD_KILLED else gone.si_status}")


if __name__ == "__main__":
    main()
