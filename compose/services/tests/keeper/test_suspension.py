"""An instance stopped to make room comes back by itself when whoever stopped it is lost."""

import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from gpuctl_serving.kit.control import Refused
from gpuctl_serving.kit.process import own_identity, start_time
from tests.keeper.load import Load
from tests.keeper.world import Json, World, eventually

_LONG_MS = 600_000
_ME: Json = {"pid": own_identity().pid, "startTime": own_identity().start_time}


@pytest.fixture
def world() -> Iterator[World]:
    with World() as made:
        made.start_keeper()
        made.serve("old")
        yield made


def serves(world: World, name: str) -> bool:
    return bool(world.see(name)["traffic"] == "open")


def test_it_ends_and_stays_away_while_its_operator_lives(world: World) -> None:
    world.ask("suspend", id="old", drainMs=1000, restoreAfterMs=_LONG_MS, operator=_ME)
    assert world.see("old")["process"]["state"] == "stopped"
    time.sleep(2.5)  # one round of the keeper's housekeeping: nothing may happen in it
    assert world.see("old")["process"]["state"] == "stopped"


def test_it_comes_back_when_the_time_is_over_and_takes_the_room_of_the_candidate(world: World) -> None:
    world.ask("suspend", id="old", drainMs=1000, restoreAfterMs=100, operator=_ME)
    world.start("candidate")
    with Load(world.port, clients=4, per_second=50) as load:  # connections wait in the backlog meanwhile
        eventually(lambda: serves(world, "old"), "the old instance is back")
        load.more(10)
    assert world.see("candidate")["process"]["state"] == "stopped"
    assert load.tally.failed == []


def test_it_comes_back_at_once_when_its_operator_is_killed_and_so_is_the_keeper(world: World) -> None:
    operator = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        named = {"pid": operator.pid, "startTime": start_time(operator.pid)}
        world.ask("suspend", id="old", drainMs=1000, restoreAfterMs=_LONG_MS, operator=named)
        world.start("candidate")
    finally:
        operator.kill()
        operator.wait(10)
    world.kill_keeper()
    world.start_keeper()
    eventually(lambda: serves(world, "old"), "the next keeper keeps the promise")
    assert world.see("candidate")["process"]["state"] == "stopped"


def test_a_successor_that_was_opened_calls_it_off(world: World) -> None:
    world.ask("suspend", id="old", drainMs=1000, restoreAfterMs=3000)
    world.start("candidate")
    world.ask("open", id="candidate")
    time.sleep(5)  # past the time and a round of housekeeping
    assert world.see("old")["process"]["state"] == "stopped"
    assert serves(world, "candidate")


def test_stopping_it_for_good_calls_it_off(world: World) -> None:
    world.ask("suspend", id="old", drainMs=1000, restoreAfterMs=2500)
    world.ask("stop", id="old")
    time.sleep(5)  # as above
    assert world.see("old")["process"]["state"] == "stopped"


@pytest.mark.parametrize("operator", ["me", {"pid": 1}, {"pid": True, "startTime": 1}])
def test_an_operator_that_is_none_is_refused_and_nothing_stops(world: World, operator: object) -> None:
    with pytest.raises(Refused, match="operator"):
        world.ask("suspend", id="old", operator=operator)
    assert serves(world, "old")
