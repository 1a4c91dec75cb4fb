"""An instance without a keeper around it: sockets, traffic, endings."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import pytest

from gpuctl_serving.kit.control import Refused, ask_now, bind_unix
from tests.keeper.world import SERVICES, eventually


class Alone:
    """One tiny instance, its listener held here as a keeper would."""

    def __init__(self, directory: Path, **env: str) -> None:
        self.directory = directory
        self.control, self.private = directory / "a.ctl", directory / "a.http"
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self.listener.getsockname()[1])
        document = {"id": "a", "service": "tiny", "release": "r1", "slot": "b"}
        document |= {"control": str(self.control), "private": str(self.private)}
        (directory / "a.json").write_text(json.dumps(document))
        self._env = env

    def __enter__(self) -> Self:
        fd = self.listener.fileno()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.keeper.tiny_service"],
            env={
                "PATH": os.environ["PATH"],
                "PYTHONPATH": f"{SERVICES / 'src'}:{SERVICES}",
                "GPUCTL_INSTANCE_FILE": str(self.directory / "a.json"),
                "GPUCTL_LISTEN_FD": str(fd),
                **self._env,
            },
            pass_fds=(fd,),
            stdout=subprocess.PIPE,
            text=True,
        )
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(10)
        if self.process.stdout is not None:
            self.process.stdout.close()
        self.listener.close()

    def ask(self, op: str, **values: Any) -> dict[str, Any]:
        """On its control socket; empty while there is none."""
        try:
            return ask_now(self.control, {"op": op, **values}, 20)[0]
        except OSError:
            return {}

    def ready(self) -> Self:
        """Waits for it."""
        eventually(lambda: self.ask("hello").get("state") == "ready", "it is ready")
        return self

    def end(self) -> tuple[int, str]:
        """Its exit status and output."""
        output, _ = self.process.communicate(timeout=20)
        return self.process.returncode, output


@pytest.fixture
def directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="inst-") as made:
        yield Path(made)


@pytest.fixture
def alone(directory: Path) -> Iterator[Alone]:
    with Alone(directory) as made:
        yield made.ready()


class Unix(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("instance", timeout=10)
        self._path = path

    def connect(self) -> None:
        """To the path in place of a host."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(10)
        self.sock.connect(str(self._path))


def get(connection: http.client.HTTPConnection, path: str = "/") -> tuple[Any, str | None]:
    """Body and `Connection` header."""
    connection.request("GET", path)
    answer = connection.getresponse()
    return json.loads(answer.read()), answer.getheader("connection")


def test_it_is_known_before_it_has_loaded_and_refuses_traffic_until_then(directory: Path) -> None:
    with Alone(directory, TINY_LOAD="hang") as alone:
        hello = eventually(lambda: alone.ask("hello"), "its control socket answers")
        assert hello["pid"] == alone.process.pid
        assert (hello["id"], hello["release"], hello["slot"]) == ("a", "r1", "b")
        assert (hello["state"], hello["traffic"], hello["inflight"]) == ("loading", "closed", 0)
        with pytest.raises(Refused) as refused:
            alone.ask("accept")
        assert refused.value.code == "not-ready"
        assert not alone.private.exists()
        alone.process.send_signal(signal.SIGTERM)
        assert alone.end()[0] == 0


@pytest.mark.parametrize(("how", "status"), [("fail", 1), ("exit", 3)])
def test_one_that_cannot_load_ends_and_says_why(directory: Path, how: str, status: int) -> None:
    with Alone(directory, TINY_LOAD=how) as alone:
        code, output = alone.end()
    assert code == status
    if how == "fail":
        line = next(json.loads(each) for each in output.splitlines() if "load-failed" in each)
        assert "the weights are missing" in line["reason"]


def test_the_private_socket_is_marked_and_answers_whatever_the_traffic(alone: Alone) -> None:
    assert get(Unix(alone.private))[0]["private"] is True
    alone.ask("accept")
    assert get(http.client.HTTPConnection("127.0.0.1", alone.port, timeout=10))[0]["private"] is False
    alone.ask("pause", drainMs=0)
    assert get(Unix(alone.private))[0]["private"] is True
    assert get(Unix(alone.private), "/private/heard")[0]["heard"] == ["open", "paused"]


def test_its_sockets_are_private(alone: Alone) -> None:
    for path in (alone.control, alone.private):
        assert path.stat().st_mode & 0o777 == 0o600


def test_connections_wait_until_it_accepts(alone: Alone) -> None:
    waiting = http.client.HTTPConnection("127.0.0.1", alone.port, timeout=10)
    waiting.request("GET", "/")
    assert alone.ask("hello")["inflight"] == 0
    alone.ask("accept")
    assert waiting.getresponse().status == 200


def test_a_paused_instance_answers_kept_connections_once_more_then_closes_idle_ones(alone: Alone) -> None:
    alone.ask("accept")
    used, idle = (http.client.HTTPConnection("127.0.0.1", alone.port, timeout=10) for _ in range(2))
    for connection in (used, idle):
        assert get(connection)[1] is None
    paused = time.monotonic()
    assert alone.ask("pause", drainMs=5000)["drained"] is True
    assert time.monotonic() - paused < 1, "idle connections are not waited for"
    assert get(used)[1] == "close"
    assert idle.sock is not None
    assert idle.sock.recv(1) == b""
    assert 1.9 < time.monotonic() - paused < 3


def test_a_pause_says_when_requests_did_not_end_in_time(alone: Alone) -> None:
    alone.ask("accept")
    slow = http.client.HTTPConnection("127.0.0.1", alone.port, timeout=10)
    slow.request("GET", "/?ms=600")
    eventually(lambda: alone.ask("hello")["inflight"] == 1, "the request is inside")
    early = alone.ask("pause", drainMs=100)
    assert (early["drained"], early["waitedMs"] >= 100) == (False, True)
    assert alone.ask("pause", drainMs=5000)["drained"] is True
    assert slow.getresponse().getheader("connection") == "close"


def test_a_request_that_arrives_in_pieces_is_waited_for(alone: Alone) -> None:
    alone.ask("accept")
    with socket.create_connection(("127.0.0.1", alone.port), timeout=10) as client:
        client.sendall(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\n")
        eventually(lambda: alone.ask("pause", drainMs=50)["drained"] is False, "the pieces are seen")
        client.sendall(b"\r\nab")
        time.sleep(0.1)
        client.sendall(b"cd")
        answer = b""
        while data := client.recv(65536):
            answer += data
    assert answer.startswith(b"HTTP/1.1 200")
    assert b"connection: close" in answer
    assert alone.ask("pause", drainMs=5000)["drained"] is True


@pytest.mark.parametrize("drain", [-1, "soon", True, None, 1e12])
def test_a_pause_without_sense_is_refused(alone: Alone, drain: object) -> None:
    with pytest.raises(Refused) as refused:
        alone.ask("pause", drainMs=drain)
    assert refused.value.code == "bad-request"


def test_the_listening_socket_can_be_taken_from_it(alone: Alone) -> None:
    _, descriptor = ask_now(alone.control, {"op": "listener"}, 5)
    assert descriptor is not None
    with socket.socket(fileno=descriptor) as taken:
        assert taken.getsockname() == alone.listener.getsockname()
        assert taken.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 1


@pytest.mark.parametrize("how", ["exit", "SIGTERM"])
def test_it_ends_after_what_it_is_answering(alone: Alone, how: str) -> None:
    alone.ask("accept")
    slow = http.client.HTTPConnection("127.0.0.1", alone.port, timeout=10)
    slow.request("GET", "/?ms=500")
    eventually(lambda: alone.ask("hello")["inflight"] == 1, "the request is inside")
    if how == "exit":
        alone.ask("exit")
    else:
        alone.process.send_signal(signal.SIGTERM)
    assert slow.getresponse().status == 200
    assert alone.end()[0] == 0
    assert not alone.control.exists()
    assert not alone.private.exists()


def test_endless_headers_are_refused(alone: Alone) -> None:
    alone.ask("accept")
    with socket.create_connection(("127.0.0.1", alone.port), timeout=10) as client:
        client.sendall(b"GET / HTTP/1.1\r\n")
        answer = b""
        try:
            for number in range(100):
                client.sendall(b"x-%d: " % number + b"y" * 4000 + b"\r\n")
            answer = client.recv(65536)
        except ConnectionError:
            answer = b"HTTP/1.1 431"  # it closed before all of it was sent
    assert answer.startswith(b"HTTP/1.1 431")
    assert get(http.client.HTTPConnection("127.0.0.1", alone.port, timeout=10))[0]["id"] == "a"


def test_a_dead_ones_socket_is_replaced_and_a_live_ones_is_refused(directory: Path) -> None:
    path = directory / "s"
    bind_unix(path).close()
    assert path.exists()
    with bind_unix(path):
        assert path.stat().st_mode & 0o777 == 0o600
        with pytest.raises(FileExistsError, match="another process answers"):
            bind_unix(path)


def test_two_instances_of_one_id_do_not_meet(alone: Alone) -> None:
    second = Alone(alone.directory)
    with second:
        code, output = second.end()
    assert code == 1
    assert "another process answers" in output
    assert alone.ask("hello")["pid"] == alone.process.pid
