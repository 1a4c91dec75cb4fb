"""What the keeper answers, refuses, and is not hurt by."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gpuctl_serving.kit.control import MAX_LINE_BYTES, Refused
from gpuctl_serving.kit.process import start_time
from tests.keeper.world import SERVICES, World, eventually


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with World() as made:
        made.start_keeper()
        yield made


def talk(world: World, *lines: bytes) -> list[dict[str, object]]:
    """Sends raw lines on one connection; the answers."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(10)
        connection.connect(str(world.paths.socket))
        connection.sendall(b"".join(lines))
        connection.shutdown(socket.SHUT_WR)
        answers = b""
        while data := connection.recv(65536):
            answers += data
    return [json.loads(line) for line in answers.splitlines()]


def test_it_says_who_it_is(world: World) -> None:
    hello = world.hello()
    assert hello is not None and world.keeper is not None
    assert hello["pid"] == world.keeper.pid
    assert hello["startTime"] == start_time(world.keeper.pid)
    assert hello["protocol"] == 1
    identity = json.loads(world.paths.identity.read_text())
    assert identity == {key: value for key, value in hello.items() if key != "ok"}


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (b"\n", "bad-request"),
        (b"not json\n", "bad-request"),
        (b"[1]\n", "bad-request"),
        (b"{}\n", "bad-request"),
        (b'{"op":7}\n', "bad-request"),
        (b"\xff\xfe\n", "bad-request"),
        (b"[" * 50_000 + b"\n", "bad-request"),
        (b'{"op":"reboot"}\n', "unknown-op"),
        (b'{"op":"start","id":"a"}\n', "bad-request"),
        (b'{"op":"start","token":true,"id":"a"}\n', "bad-request"),
        (b'{"op":"start","token":1}\n', "bad-request"),
        (b'{"op":"start","token":1,"id":"../../etc/passwd"}\n', "bad-request"),
        (b'{"op":"start","token":1,"id":"nobody"}\n', "no-launch-document"),
        (b'{"op":"open","token":1,"id":"nobody"}\n', "unknown-instance"),
        (b'{"op":"stop","token":1,"id":"nobody","afterMs":-1}\n', "unknown-instance"),
        (b'{"op":"close","token":1,"id":"nobody","drainMs":"soon"}\n', "bad-request"),
        (b'{"op":"listen","token":1,"service":"tiny","host":"127.0.0.1","port":0}\n', "bad-request"),
        (b'{"op":"listen","token":1,"service":"tiny","host":"nowhere","port":80}\n', "bad-request"),
        (b'{"op":"hello","x":"' + b"x" * MAX_LINE_BYTES + b'"}\n', "line-too-long"),
    ],
)
def test_a_wrong_request_is_refused_with_a_reason(world: World, line: bytes, code: str) -> None:
    (answer,) = talk(world, line)
    assert (answer["ok"], answer["error"]) == (False, code)
    assert answer["message"]


def test_requests_of_one_connection_are_answered_in_order(world: World) -> None:
    answers = talk(world, b'{"op":"hello"}\nrubbish\n', b'{"op":"list"}\n')
    assert [answer["ok"] for answer in answers] == [True, False, True]


def test_half_open_and_silent_clients_do_not_hurt_it(world: World) -> None:
    clients = []
    for number in range(60):
        client = socket.socket(socket.AF_UNIX)
        client.connect(str(world.paths.socket))
        client.sendall(b'{"op":' if number % 2 else b"")
        clients.append(client)
    assert world.hello() is not None
    for client in clients[:30]:
        client.close()
    assert world.hello() is not None
    for client in clients[30:]:
        client.close()


def test_an_endless_line_is_not_kept_in_memory(world: World) -> None:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(10)
        client.connect(str(world.paths.socket))
        with pytest.raises(OSError, match=r"Broken pipe|reset"):
            for _ in range(1000):
                client.sendall(b"x" * 65536)
    assert world.hello() is not None


def test_an_older_token_is_refused_also_by_the_next_keeper() -> None:
    with World() as world:
        world.start_keeper()
        world.token = 7
        world.listen()
        world.token = 6
        with pytest.raises(Refused, match="token 6") as stale:
            world.listen()
        assert stale.value.code == "stale-token"
        world.kill_keeper()
        world.start_keeper()
        with pytest.raises(Refused) as still:
            world.ask("shutdown", keepInstances=False)
        assert still.value.code == "stale-token"
        world.token = 7
        world.listen()


def test_a_port_of_a_stranger_is_refused_with_the_strangers_name(world: World) -> None:
    with socket.socket() as stranger:
        stranger.bind(("127.0.0.1", 0))
        stranger.listen()
        with pytest.raises(Refused) as taken:
            world.ask("listen", service="tiny", host="127.0.0.1", port=stranger.getsockname()[1])
    assert taken.value.code == "port-taken"
    assert taken.value.more["by"].startswith(f"pid {os.getpid()} (")


def test_an_instance_is_forgotten_only_after_it_was_stopped() -> None:
    with World() as world:
        world.start_keeper()
        world.serve("only")
        with pytest.raises(Refused, match="stop it first"):
            world.ask("forget", id="only")
        world.ask("stop", id="only")
        world.ask("forget", id="only")
        assert world.ask("list")["instances"] == []


def test_an_instance_that_ignores_everything_is_killed() -> None:
    with World() as world:
        world.start_keeper(options="Options(patience=Patience(term=0.3, kill=0.6))")
        world.listen()
        world.start("deaf")
        os.kill(world.pid("deaf"), signal.SIGSTOP)
        began = time.monotonic()
        world.ask("stop", id="deaf")
        assert time.monotonic() - began > 0.6
        assert world.see("deaf")["lastExit"] == {"code": None, "signal": "SIGKILL"}


def test_an_instance_starts_only_on_an_address_that_is_held(world: World) -> None:
    world.document("early")
    with pytest.raises(Refused) as refused:
        world.ask("start", id="early")
    assert refused.value.code == "no-listener"


def test_an_earlier_address_of_a_service_is_given_up_once_nobody_uses_it() -> None:
    with World() as world:
        world.start_keeper()
        world.serve("old")
        old_port = world.port
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            world.port = probe.getsockname()[1]
        world.serve("new")
        world.ask("close", id="old", drainMs=1000)
        assert [each["port"] for each in world.ask("list")["listeners"]] == [old_port, world.port]
        world.ask("stop", id="old")
        assert [each["port"] for each in world.ask("list")["listeners"]] == [world.port]
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", old_port))


def test_a_second_keeper_says_who_holds_the_environment(world: World) -> None:
    assert world.keeper is not None
    second = subprocess.run(
        [sys.executable, "-m", "gpuctl_serving.keeper", "--state", str(world.state)],
        env={**os.environ, "PYTHONPATH": str(SERVICES / "src")},
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert second.returncode == 75
    assert f"Another keeper (pid {world.keeper.pid}) holds" in second.stderr


def test_everything_it_makes_is_private(world: World) -> None:
    for directory in (world.paths.state, world.paths.run, world.paths.keeper, world.paths.logs):
        assert directory.stat().st_mode & 0o777 == 0o700
    for file in (world.paths.socket, world.paths.identity, world.paths.lock, world.paths.logs / "keeper.log"):
        assert file.stat().st_mode & 0o777 == 0o600


def test_it_imports_no_library_and_stays_small(world: World) -> None:
    assert world.keeper is not None
    status = Path(f"/proc/{world.keeper.pid}/status").read_text()
    assert int(status.partition("VmRSS:")[2].split()[0]) < 40_000  # KiB
    maps = Path(f"/proc/{world.keeper.pid}/maps").read_text()
    assert "site-packages" not in maps
    libraries = ["numpy", "starlette", "uvicorn", "uvloop", "orjson", "msgspec", "httptools"]
    program = (
        f"import sys, gpuctl_serving.keeper.__main__; sys.exit(any(m in sys.modules for m in {libraries}))"
    )
    environment = {**os.environ, "PYTHONPATH": str(SERVICES / "src")}
    assert (
        subprocess.run([sys.executable, "-c", program], env=environment, timeout=20, check=False).returncode
        == 0
    )


def test_a_client_that_leaves_in_the_middle_does_not_stop_what_it_asked_for(world: World) -> None:
    world.listen()
    world.start("left")
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(world.paths.socket))
        client.sendall(b'{"op":"stop","token":1,"id":"left"}\n')
    eventually(lambda: world.see("left")["process"]["state"] == "stopped", "it is stopped")


def test_a_disk_that_refuses_stops_new_instances_but_no_way_back() -> None:
    with World() as world:
        keeper = world.start_keeper()
        world.serve("old")
        world.swap("old", "new")
        in_the_way = world.paths.keeper / f".desired.json.{keeper}.tmp"
        in_the_way.mkdir()
        world.document("another")
        with pytest.raises(Refused) as refused:
            world.ask("start", id="another")
        assert refused.value.code == "state-unwritable"
        world.ask("open", id="old")
        world.ask("close", id="new", drainMs=1000)
        assert (world.see("old")["traffic"], world.see("new")["traffic"]) == ("open", "paused")
        in_the_way.rmdir()
        world.ask("stop", id="new")
        instances = json.loads(world.paths.desired.read_text())["instances"]
        assert [(each["id"], each["desired"]) for each in instances] == [("old", "open"), ("new", "stopped")]


def test_a_request_can_be_sent_by_hand(world: World) -> None:
    def call(state: Path, request: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-m", "gpuctl_serving.keeper", "call", "--state", str(state), request],
            env={**os.environ, "PYTHONPATH": str(SERVICES / "src")},
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )

    assert json.loads(call(world.state, '{"op":"list"}').stdout)["ok"] is True
    assert call(world.state, '{"op":"dance"}').returncode == 1
    nobody = call(world.state / "nobody", '{"op":"list"}')
    assert nobody.returncode == 1
    assert "No keeper answers" in nobody.stderr
