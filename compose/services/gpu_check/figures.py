"""Measured figures: never a number without how many it came from and how far they spread."""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Figures:
    """Milliseconds of one thing done `n` times."""

    n: int
    median_ms: float
    p10_ms: float
    p90_ms: float

    @classmethod
    def of(cls, milliseconds: list[float]) -> "Figures":
        """The figures of these runs."""
        ordered = sorted(milliseconds)

        def at(share: float) -> float:
            return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))], 3)

        return cls(len(ordered), at(0.5), at(0.1), at(0.9))

    def json(self) -> dict[str, Any]:
        """For the report."""
        return asdict(self)


def timed(run: Callable[[], object], seconds: float, least: int = 5) -> Figures:
    """Runs it for so long, and at least so often, after one run that does not count."""
    run()
    taken: list[float] = []
    until = time.perf_counter() + seconds
    while len(taken) < least or time.perf_counter() < until:
        started = time.perf_counter()
        run()
        taken.append((time.perf_counter() - started) * 1000)
    return Figures.of(taken)
