"""A date that jumps neither stops the snapshots by the clock nor makes one after another."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gpuctl_serving.index import maintenance
from gpuctl_serving.index.core import Core
from gpuctl_serving.index.maintenance import Maintenance
from tests.index import direct
from tests.index.durable import damage

_YEAR = 365 * 86_400.0


@pytest.fixture
def core(tmp_path: Path) -> Iterator[Core]:
    made = direct.open_core(tmp_path, index_snapshot_seconds=60)
    yield made
    direct.close(made)


class Clocks:
    """The date and the time since boot, as the test sets them; stands in for the module `time`."""

    def __init__(self) -> None:
        self._date, self._boot = time.time(), time.monotonic()

    def time(self) -> float:
        """Seconds since 1970, by the date."""
        return self._date

    def monotonic(self) -> float:
        """Seconds since boot."""
        return self._boot

    def jump(self, seconds: float) -> None:
        """Somebody sets the date."""
        self._date += seconds

    def pass_by(self, seconds: float) -> None:
        """As on an ordinary day."""
        self._date, self._boot = self._date + seconds, self._boot + seconds


@pytest.mark.parametrize("jump", [-_YEAR, -30.0, 0.0])
def test_a_date_that_was_set_back_delays_no_snapshot(
    core: Core, jump: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    damage.write(core, 5)
    keeper = Maintenance(core)
    keeper.snapshot(lambda phase, done, of: None)
    damage.write(core, 5, 5)
    clocks = Clocks()
    monkeypatch.setattr(maintenance, "time", clocks)
    clocks.jump(jump)
    assert not keeper._due() and keeper.age >= 0
    clocks.pass_by(40)
    assert not keeper._due()
    clocks.pass_by(21)
    assert keeper._due()


def test_a_date_that_jumps_ahead_makes_one_snapshot_and_not_another(
    core: Core, monkeypatch: pytest.MonkeyPatch
) -> None:
    damage.write(core, 5)
    keeper = Maintenance(core)
    keeper.snapshot(lambda phase, done, of: None)
    damage.write(core, 5, 5)
    clocks = Clocks()
    clocks.jump(_YEAR)
    # Also for what writes the manifest.
    monkeypatch.setattr(time, "time", clocks.time)
    assert keeper._due()
    keeper.snapshot(lambda phase, done, of: None)
    assert keeper.newest is not None and keeper.newest.items == 8
    damage.write(core, 2, 10)
    assert not keeper._due()
