"""How long to wait before a process that died is started again."""

from dataclasses import dataclass

FIRST_SECONDS = 0.2
LONGEST_SECONDS = 30.0
#: Having served this long, it starts from the first step again.
HEALTHY_SECONDS = 60.0


@dataclass
class BackOff:
    """0.2 s, doubling to 30 s; reset by 60 s of health."""

    _next: float = FIRST_SECONDS

    def after(self, healthy_seconds: float) -> float:
        """The wait after an exit that followed so much time in service."""
        if healthy_seconds >= HEALTHY_SECONDS:
            self._next = FIRST_SECONDS
        wait = self._next
        self._next = min(self._next * 2, LONGEST_SECONDS)
        return wait
