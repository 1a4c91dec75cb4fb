"""When to leave a sick Redis alone: pure, told the time."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Patience:
    """How much trouble is borne. Durations in seconds."""

    #: Late answers in a row until it is left alone.
    late: int = 4
    first_pause: float = 0.5
    longest_pause: float = 30.0


class Breaker:
    """Closed: Redis is asked. Open until a time: it is not, and nobody waits for it."""

    def __init__(self, patience: Patience) -> None:
        self._patience = patience
        self._late = 0
        self._pause = patience.first_pause
        self._open_until = 0.0

    def closed(self, now: float) -> bool:
        """Whether to ask."""
        return now >= self._open_until

    def good(self) -> None:
        """An answer came in time."""
        self._late = 0
        self._pause = self._patience.first_pause

    def late(self, now: float) -> None:
        """A request gave up waiting; after several in a row it opens."""
        self._late += 1
        if self._late >= self._patience.late:
            self.broken(now)

    def broken(self, now: float) -> float:
        """Opens for a while, each time for twice as long; returns for how many seconds."""
        pause = self._pause
        # Until an answer comes in time, one more late one is enough.
        self._late = self._patience.late - 1
        self._open_until = now + pause
        self._pause = min(2 * pause, self._patience.longest_pause)
        return pause
