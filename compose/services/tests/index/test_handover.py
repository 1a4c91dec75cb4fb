"""The writer moves between two real processes while clients write and search."""

import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.index.instances import Instance, hand_over, public_socket, wait_until
from tests.index.load import BASE, Load


class Stage:
    """A public socket and the instances behind it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.listener: socket.socket = public_socket()
        self.port: int = self.listener.getsockname()[1]
        self.instances: list[Instance] = []

    def start(self, name: str, *, opened: bool = False, **settings: Any) -> Instance:
        """A ready instance, serving the public when `opened`."""
        instance = Instance(self.directory, name, self.listener, **settings)
        self.instances.append(instance)
        instance.wait_ready()
        if opened:
            assert instance.control("accept")["ok"]
        return instance

    def post(self, route: str, body: Any) -> httpx.Response:
        """One public request."""
        return httpx.post(f"http://127.0.0.1:{self.port}{BASE}/{route}", json=body, timeout=20)

    def stored(self, instance: Instance) -> int:
        """Items one instance counts."""
        return int(instance.standing()["items"])


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    made = Stage(tmp_path)
    try:
        yield made
    finally:
        for instance in made.instances:
            instance.kill()
        made.listener.close()


def test_a_handover_and_its_rollback_fail_and_lose_no_request(stage: Stage) -> None:
    old = stage.start("old-a", opened=True)
    with Load(stage.port) as load:
        wait_until(lambda: len(load.acknowledged) > 20, "writes flow")
        new = stage.start("new-b")
        assert new.standing()["writer"] is False
        held, taken = hand_over(old, new)
        assert held["heldMs"] < 1000 and taken["waitedMs"] < 1000
        at_switch = len(load.acknowledged)
        wait_until(lambda: len(load.acknowledged) > at_switch + 20, "writes flow after the switch")
        assert new.standing()["writer"] is True and old.standing()["writer"] is False
        hand_over(new, old)
        back = len(load.acknowledged)
        wait_until(lambda: len(load.acknowledged) > back + 20, "writes flow after the rollback")
    assert load.failed == []
    assert load.searched > 50
    assert load.slowest < 2.0
    assert stage.stored(old) == len(load.acknowledged) == len(set(load.acknowledged))
    wait_until(lambda: new.standing()["lag"] == 0, "the paused instance follows")
    assert stage.stored(new) == len(load.acknowledged)


def test_a_hold_that_nobody_takes_ends_by_itself_and_the_held_writes_are_stored(stage: Stage) -> None:
    old = stage.start("old-a", opened=True)
    with Load(stage.port) as load:
        wait_until(lambda: len(load.acknowledged) > 5, "writes flow")
        status, _ = old.private("POST", "writer/hold", {"holdMs": 300, "successor": "unix:/nowhere"})
        assert status == 200
        at_hold = len(load.acknowledged)
        wait_until(lambda: old.standing()["writer"], "the lock is taken back", 2)
        wait_until(lambda: len(load.acknowledged) > at_hold + 10, "writes flow again")
    assert load.failed == []
    assert 0.25 < load.slowest < 2.0
    assert stage.stored(old) == len(load.acknowledged)


def test_a_take_without_a_release_is_refused_in_time_and_names_the_holder(stage: Stage) -> None:
    stage.start("old-a", opened=True)
    new = stage.start("new-b")
    began = time.monotonic()
    status, answer = new.private("POST", "writer/take", {"deadlineMs": 200})
    assert status == 409 and "old-a" in answer["message"]
    assert 0.15 < time.monotonic() - began < 2


def test_the_open_follower_takes_over_when_the_writer_is_killed(stage: Stage) -> None:
    old = stage.start("old-a", opened=True)
    new = stage.start("new-b", opened=True)
    assert stage.post("add", {"items": [{"id": "before", "vector": [1, 0, 0]}]}).status_code == 200
    old.kill()
    assert stage.post("add", {"items": [{"id": "after", "vector": [0, 1, 0]}]}).status_code == 200
    assert new.standing()["writer"] is True
    assert stage.stored(new) == 2


def test_a_candidate_never_takes_the_lock_by_itself(stage: Stage) -> None:
    old = stage.start("old-a", opened=True)
    candidate = stage.start("new-b")
    old.kill()
    wait_until(lambda: old.process.poll() is not None, "the writer is gone")
    time.sleep(0.2)  # Longer than several looks at the lock.
    assert candidate.standing()["writer"] is False
    again = stage.start("old-a", opened=True)
    assert again.standing()["writer"] is True


def test_a_restarted_instance_finds_the_new_writer_and_passes_writes_on(stage: Stage) -> None:
    old = stage.start("old-a", opened=True)
    new = stage.start("new-b")
    hand_over(old, new)
    old.kill()
    again = stage.start("old-a", opened=True)
    assert new.control("pause", drainMs=1000)["ok"]
    answer = stage.post("add", {"items": [{"id": "x", "vector": [1, 0, 0]}]})
    assert answer.status_code == 200 and answer.headers["x-gpuctl-writer"] == "forwarded"
    assert again.standing()["writer"] is False
    wait_until(lambda: again.standing()["lag"] == 0, "the follower follows")
    found = stage.post("search", {"vector": [1, 0, 0]}).json()
    assert [hit["id"] for hit in found["results"][0]] == ["x"]


def test_holding_twice_is_harmless(stage: Stage) -> None:
    old = stage.start("old-a", opened=True)
    new = stage.start("new-b")
    hand_over(old, new)
    status, answer = old.private("POST", "writer/hold", {"holdMs": 500, "successor": new.address})
    assert status == 200 and answer["heldMs"] == 0
    status, answer = new.private("POST", "writer/take", {"deadlineMs": 500})
    assert status == 200 and answer["waitedMs"] == 0
