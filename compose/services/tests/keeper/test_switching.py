"""No request is lost while instances take over from each other."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.keeper.load import Load
from tests.keeper.world import World, eventually


@pytest.fixture
def world() -> Iterator[World]:
    with World() as made:
        made.start_keeper()
        yield made


def test_four_swaps_lose_no_request_of_kept_and_of_new_connections(world: World) -> None:
    world.serve("a0")
    kept = Load(world.port, clients=8, per_second=200)
    new = Load(world.port, clients=8, keep=False, per_second=200)
    with kept, new:
        for number in range(4):
            world.swap(f"a{number}", f"a{number + 1}")
            world.ask("stop", id=f"a{number}")
            kept.more(30)
    assert kept.tally.failed == []
    assert new.tally.failed == []
    assert kept.tally.answered_by >= {f"a{number}" for number in range(5)}


def test_sixteen_connections_at_full_speed_lose_no_request_over_swaps(world: World) -> None:
    world.serve("a0")
    with Load(world.port, clients=16) as load:
        for number in range(3):
            world.swap(f"a{number}", f"a{number + 1}")
            world.ask("stop", id=f"a{number}")
    assert load.tally.failed == []
    assert load.tally.ok > 1000


def test_requests_that_take_long_are_finished_by_the_instance_they_reached(world: World) -> None:
    world.serve("a0")
    slow = Load(world.port, clients=6, path="/?ms=300")
    stream = Load(world.port, clients=4, path="/stream", keep=False)
    with slow, stream:
        for number in range(2):
            world.swap(f"a{number}", f"a{number + 1}")
            world.ask("stop", id=f"a{number}")
            slow.more(6)
    assert slow.tally.failed == []
    assert stream.tally.failed == []


def test_a_pause_is_undone_by_an_open_also_of_the_only_instance(world: World) -> None:
    world.serve("only")
    with Load(world.port, clients=4, per_second=200) as load:
        for _ in range(3):
            assert world.ask("close", id="only", drainMs=5000)["drained"] is True
            assert world.see("only")["traffic"] == "paused"
            world.ask("open", id="only")
            load.more(20)
    assert load.tally.failed == []
    assert world.see("only")["desired"] == "open"


def test_a_switch_can_be_reverted_and_made_again(world: World) -> None:
    world.serve("old")
    with Load(world.port, clients=8, per_second=200) as load:
        world.swap("old", "new")
        load.more(20)
        world.ask("open", id="old")
        world.ask("close", id="new", drainMs=5000)
        load.more(20)
        world.ask("open", id="new")
        world.ask("close", id="old", drainMs=5000)
        load.more(20)
    assert load.tally.failed == []


def test_an_open_that_comes_while_a_pause_drains_wins(world: World) -> None:
    world.serve("only")
    with Load(world.port, clients=8, path="/?ms=400") as load, ThreadPoolExecutor() as beside:
        eventually(lambda: world.see("only")["inflight"], "a request is being answered")
        closing = beside.submit(world.ask, "close", id="only", drainMs=10_000)
        eventually(lambda: world.see("only")["traffic"] == "paused", "it is paused")
        world.ask("open", id="only")
        closing.result(20)
        assert world.see("only")["traffic"] == "open"
        load.more(8)
    assert load.tally.failed == []
    assert world.see("only")["desired"] == "open"
