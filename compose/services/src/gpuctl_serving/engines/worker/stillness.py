"""Tells a worker that hangs from one that is slow: who computes uses a processor, however little it gets."""

from collections.abc import Callable
from dataclasses import dataclass

from gpuctl_serving.kit.process import Usage

#: So long without computing is a hang. A loaded machine starves nobody that long: its scheduler shares.
STILL_SECONDS = 10.0
#: Processor seconds that tell nothing: the clock tick they are counted in, and the beats (0.02 % of a core).
_TICK = 0.02
_SHARE = 0.001
#: Between two looks that are further apart than this, whoever looks was not running either.
_LONGEST_LOOK = 1.0


@dataclass(frozen=True, slots=True)
class Still:
    """Since when nothing was computed, as far as it was watched."""

    #: Seconds of watching.
    seconds: float
    #: The worker's processor seconds when they began.
    used: float


def watched(before: Still | None, passed: float, usage: Usage | None) -> Still | None:
    """What another look tells, `passed` seconds after the one before. Pure; None: nothing can be said.

    Waiting for a disk (a model that was swapped out comes back) is no hang, and time in which the watcher
    stood still too (a paused container, a suspended machine) does not count.
    """
    if usage is None:
        return None
    if before is None or usage.waits_for_disk or usage.seconds < before.used:
        return Still(0.0, usage.seconds)
    seconds = before.seconds + min(max(passed, 0.0), _LONGEST_LOOK)
    if usage.seconds - before.used > _TICK + _SHARE * seconds:
        return Still(0.0, usage.seconds)
    return Still(seconds, before.used)


class Watch:
    """Looks at one process while an answer of it is waited for."""

    def __init__(self, look: Callable[[], Usage | None], limit: float = STILL_SECONDS) -> None:
        self._look, self._limit = look, limit
        self._still: Still | None = None
        self._last = 0.0

    def hangs(self, now: float) -> bool:
        """Whether it has computed nothing for the limit; `now` in seconds on a clock that never goes back."""
        self._still = watched(self._still, now - self._last, self._look())
        self._last = now
        return self._still is not None and self._still.seconds >= self._limit
