"""Rounds in which everything is measured once, in turns; a ratio compares within its round."""

import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

Measure = Callable[[int], float]


@dataclass
class Rounds:
    """Values of each arm, round by round."""

    values: dict[str, list[float]] = field(default_factory=dict)

    def take(self, arms: Mapping[str, Measure], count: int) -> None:
        """Measures every arm once a round, after one round that warms up; every other round backwards."""
        for measure in arms.values():
            measure(-1)
        for number in range(count):
            order = list(arms.items())
            for name, measure in order if number % 2 == 0 else reversed(order):
                self.values.setdefault(name, []).append(measure(number))
            sys.stderr.write(f"round {number + 1} of {count}\n")

    def ratio(self, above: str, below: str) -> list[float]:
        """Round by round."""
        return [a / b for a, b in zip(self.values[above], self.values[below], strict=True)]

    def difference(self, above: str, below: str) -> list[float]:
        """Round by round."""
        return [a - b for a, b in zip(self.values[above], self.values[below], strict=True)]


def spread(values: list[float]) -> dict[str, float]:
    """Median, smallest and largest, and how many there are."""
    found = {"n": len(values), "median": statistics.median(values), "min": min(values), "max": max(values)}
    return {name: round(value, 4) for name, value in found.items()}


def quantile(values: list[float], share: float) -> float:
    """The smallest value that so large a share does not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def report(name: str, figures: Mapping[str, object], targets: Mapping[str, str]) -> None:
    """Prints one JSON document; leaves it in the folder that GPUCTL_TEST_FIGURES names."""
    text = {
        "measured": name,
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "machine": {
            "cpus": len(os.sched_getaffinity(0)),
            "system": platform.platform(),
            "load": os.getloadavg(),
        },
        "figures": figures,
        "targets": targets,
    }
    print(json.dumps(text, indent=2))
    if folder := os.environ.get("GPUCTL_TEST_FIGURES"):
        Path(folder, f"speed-{name}.json").write_text(json.dumps(text))
