"""Workers whose engine does as it is told."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from gpuctl_serving.engines.worker.proxy import WorkerEngine
from tests.worker.support import ARGV, SPEC, Make


@pytest.fixture
def make() -> Iterator[Make]:
    made: list[WorkerEngine] = []

    def one(hang: float = 30.0, pulse: float = 30.0, load: float = 30.0, still: float = 30.0) -> WorkerEngine:
        engine = WorkerEngine(
            SPEC, hang_seconds=hang, pulse_seconds=pulse, load_seconds=load, still_seconds=still, argv=ARGV
        )
        made.append(engine)
        return engine

    yield one
    for engine in made:
        engine.close()


@pytest.fixture
def loaded(make: Make) -> WorkerEngine:
    engine = make()
    engine.load(Path("fine"))
    return engine
