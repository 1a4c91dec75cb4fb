"""Faults that come and go: every kind, in an order of dice, and signals from outside."""

import contextlib
import os
import random
import signal
import time
from collections.abc import Mapping
from pathlib import Path

from tests.worker.services import ServiceProcess

_ON_BATCHES = (
    *("oom", "cuda-error", "nan", "wrong-dimension", "wrong-count", "fail", "slow:150ms"),
    *("exit", "crash", "hang", "stop"),
)
_ANY = "+".join(_ON_BATCHES)
#: What an engine is like for a while; every kind of fault is among them. Those of batches mostly begin once
#: the engine had the time to prove itself and to answer: else it would never be in service to fail there.
MOODS = (
    *("", "", f"random:0.05:1:{_ANY}", f"random:0.3:2:{_ANY}", "flap:10", "flap:40", "oom-above:64"),
    *("exit-at-load", "hang-at-load", "fail-at-load", "nan", "crash"),
    *(f"{fault}-after:12" for fault in _ON_BATCHES),
)


class Moods:
    """Changes the fault of each engine now and then, by dice; kills and stops its worker from outside too."""

    def __init__(self, files: Mapping[str, Path], seed: int) -> None:
        """`files`: engine -> what its workers read their fault from."""
        self._files = files
        self._dice = random.Random(seed)  # noqa: S311 - not for secrets
        self.calm()

    def calm(self) -> None:
        """No fault any more."""
        for file in self._files.values():
            put(file, "")

    def reign(self, service: ServiceProcess, seconds: float, every: tuple[float, float] = (0.5, 2.0)) -> None:
        """All faults at random, the first engine's more often; each mood occurs before any comes again."""
        end = time.monotonic() + seconds
        first, *_, last = [*self._files, *self._files]
        waiting: dict[str, list[str]] = {engine: [] for engine in self._files}
        while (left := end - time.monotonic()) > 0:
            engine = first if self._dice.random() < 0.75 else last
            if not waiting[engine]:
                waiting[engine] = self._dice.sample(MOODS, len(MOODS))
            put(self._files[engine], waiting[engine].pop())
            time.sleep(min(left, self._dice.uniform(*every)))
            if self._dice.random() < 0.3:
                self._strike(service, engine)
        self.calm()

    def _strike(self, service: ServiceProcess, engine: str) -> None:
        number = self._dice.choice((signal.SIGKILL, signal.SIGKILL, signal.SIGSTOP))
        for pid in service.workers_of(engine):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)


def put(file: Path, text: str) -> None:
    """At once: an engine that reads it meanwhile sees one or the other."""
    fresh = file.with_suffix(".new")
    fresh.write_text(text)
    fresh.rename(file)
