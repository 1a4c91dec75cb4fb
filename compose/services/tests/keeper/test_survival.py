"""kill -9 of an instance, of the keeper, of both; reboots; timers; whatever else must not be lost."""

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gpuctl_serving.kit.control import Refused
from gpuctl_serving.kit.process import boot_ms
from tests.keeper.load import Load
from tests.keeper.world import SERVICES, World, eventually, gone


@pytest.fixture
def world() -> Iterator[World]:
    with World() as made:
        made.start_keeper()
        yield made


def test_kill_of_the_only_instance_fails_what_is_in_it_and_refuses_nobody(world: World) -> None:
    world.serve("only")
    pid = world.pid("only")
    with Load(world.port, clients=8, per_second=200) as load:
        os.kill(pid, signal.SIGKILL)
        eventually(lambda: world.is_back("only", pid), "it is back")
        load.more(50)
    assert load.tally.refused == []
    assert len(load.tally.failed) <= 8
    seen = world.see("only")
    assert seen["restarts"] == 1
    assert seen["lastExit"] == {"code": None, "signal": "SIGKILL"}


def test_kill_of_the_keeper_is_noticed_by_nobody_and_the_next_one_adopts(world: World) -> None:
    world.serve("a0")
    pid = world.pid("a0")
    with Load(world.port, clients=8, per_second=200) as load:
        world.kill_keeper()
        load.more(20)
        world.start_keeper()
        assert world.pid("a0") == pid
        assert world.see("a0")["traffic"] == "open"
        assert world.ask("list")["listeners"][0]["bound"] is True
        world.swap("a0", "a1")
        world.ask("stop", id="a0")
        assert gone(pid)
        load.more(20)
    assert load.tally.failed == []


def test_an_adopted_instance_is_put_back_when_it_dies(world: World) -> None:
    world.serve("only")
    pid = world.pid("only")
    world.kill_keeper()
    world.start_keeper()
    with Load(world.port, clients=8, per_second=100) as load:
        os.kill(pid, signal.SIGKILL)
        eventually(lambda: world.is_back("only", pid), "it is back")
    assert load.tally.refused == []
    assert world.see("only")["lastExit"] == {"code": None, "signal": None}


def test_kill_of_both_brings_back_what_was_open_and_only_that(world: World) -> None:
    world.serve("old")
    world.swap("old", "open")
    world.start("candidate")
    pids = [world.pid(name) for name in ("old", "open", "candidate")]
    world.kill_keeper()
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    eventually(lambda: all(map(gone, pids)), "all are gone")
    world.start_keeper()
    eventually(lambda: world.see("open")["traffic"] == "open", "it is back")
    with Load(world.port, clients=2) as load:
        load.more(10)
    assert load.tally.failed == []
    assert [world.see(name)["process"]["state"] for name in ("old", "candidate")] == ["exited", "exited"]


def test_instances_are_found_by_their_sockets_when_the_desired_state_is_damaged(world: World) -> None:
    world.serve("old")
    world.swap("old", "new")
    world.kill_keeper()
    world.paths.desired.write_text('{"schemaVersion": 1, "bootId"')
    with Load(world.port, clients=2, per_second=100) as load:
        world.start_keeper()
        assert [world.see(name)["desired"] for name in ("old", "new")] == ["closed", "open"]
        assert world.ask("list")["listeners"] == [
            {"service": "tiny", "host": "127.0.0.1", "port": world.port, "bound": True}
        ]
        world.ask("open", id="old")
        world.ask("close", id="new", drainMs=5000)
        load.more(10)
    assert load.tally.failed == []
    assert world.paths.desired.with_name("desired.json.damaged").exists()


def test_another_keeper_takes_over_without_a_gap_after_an_orderly_shutdown(world: World) -> None:
    world.serve("only")
    pid = world.pid("only")
    with Load(world.port, clients=4, per_second=100) as load:
        world.ask("shutdown", keepInstances=True)
        assert world.keeper is not None and world.keeper.wait(10) == 0
        load.more(10)
        world.start_keeper()
        load.more(10)
    assert load.tally.failed == []
    assert world.pid("only") == pid


def test_a_shutdown_without_keeping_ends_everything_and_frees_the_port(world: World) -> None:
    world.serve("only")
    pid = world.pid("only")
    world.ask("shutdown", keepInstances=False)
    assert world.keeper is not None and world.keeper.wait(10) == 0
    assert gone(pid)
    world.start_keeper()
    assert world.see("only")["process"] == {"state": "stopped"}


def test_an_interrupt_ends_instances_and_the_next_keeper_puts_them_back(world: World) -> None:
    world.serve("only")
    pid = world.pid("only")
    assert world.keeper is not None
    world.keeper.send_signal(signal.SIGINT)
    assert world.keeper.wait(10) == 0
    assert gone(pid)
    world.start_keeper()
    eventually(lambda: world.see("only")["traffic"] == "open", "it is back")


def test_after_a_reboot_nothing_runs_until_somebody_says_so(world: World) -> None:
    world.serve("only")
    other_boot(world)
    world.start_keeper()
    assert world.see("only")["process"] == {"state": "stopped-by-reboot"}
    assert world.ask("list")["listeners"][0]["bound"] is False
    world.listen()
    world.ask("start", id="only")
    world.when_ready("only")
    world.ask("open", id="only")
    assert world.see("only")["process"]["state"] == "running"


def test_after_a_reboot_a_unit_brings_back_what_was_open(world: World) -> None:
    world.serve("only")
    other_boot(world)
    world.start_keeper("--restore")
    eventually(lambda: world.see("only")["traffic"] == "open", "it is back")


def other_boot(world: World) -> None:
    """Leaves the state as a reboot does: no process, and files of another boot."""
    pid = world.pid("only")
    world.kill_keeper()
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: gone(pid), "it is gone")
    desired = json.loads(world.paths.desired.read_text())
    # The pid now belongs to somebody else, who must not be touched.
    desired["bootId"], desired["instances"][0]["pid"] = "00000000-another-boot", os.getpid()
    world.paths.desired.write_text(json.dumps(desired))


def test_a_reused_pid_is_neither_adopted_nor_signalled(world: World) -> None:
    world.serve("only")
    pid = world.pid("only")
    world.ask("close", id="only", drainMs=1000)
    world.kill_keeper()
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: gone(pid), "it is gone")
    desired = json.loads(world.paths.desired.read_text())
    desired["instances"][0]["pid"] = os.getpid()
    world.paths.desired.write_text(json.dumps(desired))
    world.start_keeper()
    assert world.see("only")["process"]["state"] == "exited"
    world.ask("stop", id="only")  # we are still here


def test_a_timer_stops_a_paused_instance_also_after_the_keeper_was_killed(world: World) -> None:
    world.serve("old")
    world.swap("old", "new")
    pid = world.pid("old")
    world.ask("stop", id="old", afterMs=1500)
    assert 0 < world.see("old")["stopsInMs"] <= 1500
    until = boot_ms() + 1500
    world.kill_keeper()
    world.start_keeper()
    eventually(lambda: gone(pid), "it is stopped")
    assert boot_ms() >= until - 100
    eventually(lambda: world.see("old")["process"] == {"state": "stopped"}, "it is listed as stopped")
    assert world.see("new")["traffic"] == "open"


def test_opening_an_instance_calls_its_planned_stop_off(world: World) -> None:
    world.serve("old")
    world.swap("old", "new")
    world.ask("stop", id="old", afterMs=400)
    world.ask("open", id="old")
    assert world.see("old")["stopsInMs"] is None
    deadline = time.monotonic() + 0.8
    while time.monotonic() < deadline:
        assert world.see("old")["traffic"] == "open"
        time.sleep(0.05)


def test_a_planned_stop_does_not_hit_the_process_that_was_started_anew(world: World) -> None:
    world.serve("old")
    world.ask("close", id="old", drainMs=1000)
    pid = world.pid("old")
    world.ask("stop", id="old", afterMs=1000)
    until = time.monotonic() + 1.3
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: world.see("old")["process"]["state"] == "exited", "it is gone")
    world.ask("start", id="old")
    world.when_ready("old")
    while time.monotonic() < until:
        assert world.see("old")["process"]["state"] == "running"
        time.sleep(0.05)


def test_a_hanging_instance_is_adopted_and_gives_its_socket_once_it_moves_again(world: World) -> None:
    world.serve("only")
    pid = world.pid("only")
    world.kill_keeper()
    os.kill(pid, signal.SIGSTOP)
    world.start_keeper()
    assert world.pid("only") == pid
    assert world.ask("list")["listeners"][0]["bound"] is False
    os.kill(pid, signal.SIGCONT)
    eventually(lambda: world.ask("list")["listeners"][0]["bound"], "the listener is back")
    eventually(lambda: world.see("only")["traffic"] == "open", "it is open")


def test_an_instance_that_dies_again_and_again_waits_twice_as_long_each_time(world: World) -> None:
    world.serve("only")
    world.document("only", TINY_LOAD="exit")
    os.kill(world.pid("only"), signal.SIGKILL)
    eventually(lambda: world.see("only")["restarts"] >= 3, "three restarts")
    lines = [json.loads(line) for line in (world.paths.logs / "keeper.log").read_text().splitlines()]
    waits = [line["afterSeconds"] for line in lines if line["event"] == "restarting"]
    assert waits[:3] == [0.2, 0.4, 0.8]
    world.document("only")
    eventually(lambda: world.see("only")["traffic"] == "open", "it is back once it can load")


def test_an_instance_that_was_never_opened_is_not_restarted(world: World) -> None:
    world.listen()
    world.document("candidate", TINY_LOAD="fail")
    world.ask("start", id="candidate")
    eventually(lambda: world.see("candidate")["process"]["state"] == "exited", "it has ended")
    seen = world.see("candidate")
    assert (seen["process"], seen["restarts"]) == ({"state": "exited", "code": 1, "signal": None}, 0)
    line = next(line for line in world.log("candidate").splitlines() if "load-failed" in line)
    assert "the weights are missing" in json.loads(line)["reason"]
    with pytest.raises(Refused, match="does not run"):
        world.ask("open", id="candidate")


def test_logs_are_rotated_while_the_instance_goes_on_writing(world: World) -> None:
    world.kill_keeper()
    world.start_keeper(options="Options(rotate_bytes=2000)")
    world.listen()
    world.start("chatty", GPUCTL_LOG_LEVEL="info")
    for _ in range(20):
        world.ask("open", id="chatty")
        world.ask("close", id="chatty", drainMs=0)
    log = world.paths.logs / "chatty.log"
    eventually(lambda: log.with_name("chatty.log.1").exists(), "it was rotated")
    world.ask("open", id="chatty")
    eventually(lambda: '"traffic"' in log.read_text(), "the instance writes into the new file")
    assert b"\0" not in log.read_bytes()
    assert log.with_name("chatty.log.1").stat().st_mode & 0o777 == 0o600


def test_an_instance_gets_exactly_its_environment(world: World) -> None:
    world.serve("only")
    environment = dict(
        line.split("=", 1)
        for line in Path(f"/proc/{world.pid('only')}/environ").read_text().split("\0")
        if "=" in line
    )
    inherited = {name for name in ("PATH", "HOME", "LANG", "TZ") if name in os.environ}
    assert set(environment) == inherited | {
        "PYTHONPATH",
        "GPUCTL_LOG_LEVEL",
        "GPUCTL_INSTANCE_FILE",
        "GPUCTL_LISTEN_FD",
    }
    assert environment["PYTHONPATH"] == f"{SERVICES / 'src'}:{SERVICES}"
    assert os.getsid(world.pid("only")) == world.pid("only")
