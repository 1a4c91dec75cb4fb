"""A worker never outlives its front, and nothing but its front ends it."""

import contextlib
import ctypes
import os
import signal
import sys
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_OOM_SCORE = Path("/proc/self/oom_score_adj")
_OOM_STEP = 300
#: Status of a worker whose front is gone; nobody is left to read it.
ORPHANED = 70


def tie_to(front: int) -> None:
    """Has the kernel kill this process when its front dies, however that dies and whatever we do then.

    The front may have died before we asked: then we have another parent, and end at once.
    """
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    end_without(front)


def end_without(front: int) -> None:
    """Ends this process when `front` is no longer its parent. Asked at every beat, for other systems."""
    if os.getppid() != front:
        os._exit(ORPHANED)


def ignore_group_signals() -> None:
    """A signal to the whole group asks the front to drain; it needs its engine for that."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


def be_the_first_to_go() -> None:
    """When the machine runs out of memory the kernel ends this process, started again, and not the front."""
    with contextlib.suppress(OSError, ValueError):
        score = int(_OOM_SCORE.read_text())
        _OOM_SCORE.write_text(str(min(1000, score + _OOM_STEP)))
