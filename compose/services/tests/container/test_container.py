"""A service in its container: what a proxy is told, what restarts remember, how it leaves."""

import http.client
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import pytest

from gpuctl_serving.container.behind_proxy import service_environment
from gpuctl_serving.container.place import Place
from gpuctl_serving.container.traffic_gate import uptime
from tests.keeper.world import SERVICES, eventually, free_port


class Contained:
    """One instance; its directories outlive it, as mounts do."""

    def __init__(self, directory: Path, **env: str) -> None:
        self.directory, self.port = directory, free_port()
        self.gate = directory / "gates" / "echo-a"
        self._log = directory / "log.jsonl"
        self._env = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": f"{SERVICES / 'src'}:{SERVICES}",
            "GPUCTL_HOST": "127.0.0.1",
            "GPUCTL_PORT": str(self.port),
            "GPUCTL_INSTANCE": "echo-a",
            "GPUCTL_RELEASE": "r7",
            "GPUCTL_SLOT": "a",
            "GPUCTL_RUN_DIR": str(directory / "run"),
            "GPUCTL_TRAFFIC_DIR": str(directory / "gates"),
            **env,
        }

    def __enter__(self) -> Self:
        # A file: a pipe that nobody reads would fill, and hold the service up at its next line.
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.container.child"], env=self._env, stdout=log
            )
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(10)

    def get(self, path: str) -> tuple[int, Any]:
        """Status and body on the public port; 0 while nobody listens."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        except ConnectionError:
            return 0, None
        finally:
            connection.close()

    def checks(self, name: str) -> None:
        """As a listener of a proxy does."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        connection.request("GET", "/health/traffic", headers={"x-gpuctl-checker": name})
        connection.getresponse().read()
        connection.close()

    def told(self) -> str:
        """What a proxy is told; empty while nobody listens."""
        body = self.get("/health/traffic")[1]
        return "" if body is None else str(body["status"])

    def becomes(self, traffic: str) -> None:
        """Waits until a proxy is told so."""
        eventually(lambda: self.told() == traffic, f"/health/traffic says {traffic}")

    def command(self, *arguments: str, stdin: str = "") -> "subprocess.CompletedProcess[str]":
        """As `docker exec` would run it."""
        return subprocess.run(
            [sys.executable, "-m", "gpuctl_serving.container", *arguments],
            env=self._env,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def end(self) -> tuple[int, str]:
        """Exit status and output."""
        return self.process.wait(40), self._log.read_text()


@pytest.fixture
def directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="box-") as made:
        yield Path(made)


def test_it_is_open_unless_told_otherwise_and_writes_down_that_it_is(directory: Path) -> None:
    with Contained(directory) as contained:
        contained.becomes("open")
        assert contained.gate.read_text() == "open\n"
        assert contained.get("/health/traffic")[0] == 200
        assert contained.get("/items/0") == (200, {"heard": ["open"]})


def test_a_candidate_starts_paused_and_answers_all_the_same(directory: Path) -> None:
    with Contained(directory, GPUCTL_TRAFFIC="paused") as contained:
        contained.becomes("paused")
        assert contained.get("/health/traffic")[0] == 503
        # What a proxy sent before it noticed must not be lost.
        assert contained.get("/items/0")[0] == 200
        contained.gate.write_text("open\n")
        contained.becomes("open")


def test_a_paused_gate_stays_paused_over_a_kill_and_a_restart(directory: Path) -> None:
    with Contained(directory) as first:
        first.becomes("open")
        assert first.command("traffic", "paused").returncode == 0
        assert first.told() == "paused"
        first.process.kill()
        first.process.wait(10)
    with Contained(directory) as second:
        second.becomes("paused")
        assert second.get("/items/0") == (200, {"heard": ["paused"]})


def _deployed(directory: Path, gate: Path) -> Contained:
    document = {"id": "echo-r7-b", "service": "echo", "release": "r7", "slot": "b", "gate": str(gate)}
    document["private"] = str(directory / "p.sock")
    (directory / "instance.json").write_text(json.dumps(document))
    return Contained(directory, GPUCTL_INSTANCE_FILE=str(directory / "instance.json"))


@pytest.mark.parametrize("word", ["paused", "closed"])
def test_what_makes_room_is_back_when_its_host_was_started_anew_in_the_middle_of_that(
    directory: Path, word: str
) -> None:
    gate = directory / "gate"
    gate.write_text("open\n")
    far = int(uptime()) + 3600
    with _deployed(directory, gate) as first:
        first.becomes("open")
        say(gate, f"paused until {far}\n")
        first.becomes("paused")
        say(gate, f"{word} until {far}\n")
        time.sleep(0.5)  # several looks at the gate: that nothing happens has no event to wait for
        assert first.told() == "paused"
        first.process.kill()
        first.process.wait(10)
    with _deployed(directory, gate) as second:
        second.becomes("open")
        # The same promise was kept once; the next one counts again.
        say(gate, f"paused until {far + 1}\n")
        second.becomes("paused")


def test_what_makes_room_is_back_when_its_time_is_over_whoever_is_left(directory: Path) -> None:
    gate = directory / "gate"
    gate.write_text("open\n")
    with _deployed(directory, gate) as contained:
        contained.becomes("open")
        until = int(uptime()) + 3
        say(gate, f"paused until {until}\n")
        contained.becomes("paused")
        contained.becomes("open")
        assert uptime() >= until


def say(gate: Path, word: str) -> None:
    """Whole, as deploys do it: a file that is being written is empty for a moment, and not understood."""
    beside = gate.with_name("beside")
    beside.write_text(word)
    beside.replace(gate)


def test_a_gate_that_cannot_be_understood_changes_nothing_and_is_complained_about_once(
    directory: Path,
) -> None:
    with Contained(directory) as contained:
        contained.becomes("open")
        say(contained.gate, "opne")
        time.sleep(0.5)  # several looks at the gate: that nothing happens has no event to wait for
        assert contained.told() == "open"
        say(contained.gate, "paused")
        contained.becomes("paused")
        contained.process.terminate()
        complaints = [line for line in contained.end()[1].splitlines() if "traffic-gate-unusable" in line]
    assert len(complaints) == 1
    assert "'opne'" in json.loads(complaints[0])["reason"]


def test_whoever_deploys_writes_the_document_and_keeps_the_gate(directory: Path) -> None:
    gate = directory / "elsewhere"
    document = {"id": "echo-r7-b", "service": "echo", "release": "r7", "slot": "b", "gate": str(gate)}
    document["private"] = str(directory / "p.sock")
    (directory / "instance.json").write_text(json.dumps(document))
    with Contained(directory, GPUCTL_INSTANCE_FILE=str(directory / "instance.json")) as contained:
        contained.becomes("paused")
        assert not gate.exists()
        contained.checks("public")
        gate.write_text("open\n")
        contained.becomes("open")
        status = json.loads(contained.command("ask", "GET", "/private/status").stdout)
        assert (status["id"], status["gate"], status["checks"]) == ("echo-r7-b", "open", {"public": "closed"})
        contained.checks("public")
        status = json.loads(contained.command("ask", "GET", "/private/status").stdout)
        assert status["checks"] == {"public": "open"}
        gate.write_text("closed\n")
        contained.becomes("paused")
        gate.write_text("open\n")
        contained.becomes("open")
        gate.unlink()
        contained.becomes("paused")
        assert not gate.exists()


def test_a_closed_gate_closes_the_port_when_whoever_deploys_says_so(directory: Path) -> None:
    gate = directory / "gate"
    document = {"id": "echo-r7-b", "release": "r7", "slot": "b", "gate": str(gate), "lingerMs": 1500}
    document["private"] = str(directory / "p.sock")
    (directory / "instance.json").write_text(json.dumps(document))
    with Contained(directory, GPUCTL_INSTANCE_FILE=str(directory / "instance.json")) as contained:
        eventually(lambda: contained.command("ready").returncode == 0, "ready, asked over the private socket")
        assert contained.get("/items/0")[0] == 0
        for _ in range(2):
            gate.write_text("open\n")
            contained.becomes("open")
            gate.write_text("paused\n")
            contained.becomes("paused")
            assert contained.get("/items/0")[0] == 200
            eventually(lambda: contained.get("/items/0")[0] == 0, "connections are refused")
            assert contained.command("ready").returncode == 0
        gate.write_text("open\n")
        contained.becomes("open")
        answers: list[int] = []
        slow = threading.Thread(target=lambda: answers.append(contained.get("/items/2500")[0]))
        slow.start()
        eventually(lambda: _inflight(contained) == 1, "the request is being answered")
        gate.write_text("paused\n")
        eventually(lambda: contained.get("/items/0")[0] == 0, "connections are refused")
        slow.join(20)
    assert answers == [200]


def test_a_gate_that_vanishes_is_written_again_as_it_was(directory: Path) -> None:
    with Contained(directory, GPUCTL_TRAFFIC="open") as contained:
        contained.becomes("open")
        contained.command("traffic", "paused")
        contained.gate.unlink()
        eventually(contained.gate.exists, "the gate is there again")
        assert contained.gate.read_text() == "paused\n"


def test_a_container_that_mounts_nothing_for_its_gate_does_as_it_was_told(directory: Path) -> None:
    with Contained(directory, GPUCTL_TRAFFIC_DIR="/proc/gates") as contained:
        contained.becomes("open")
        contained.process.terminate()
        assert "/proc/gates/echo-a cannot be written" in contained.end()[1]


def test_a_gate_that_cannot_be_read_at_the_start_lets_nothing_in(directory: Path) -> None:
    (directory / "gates").mkdir()
    (directory / "gates/echo-a").write_text("")
    with Contained(directory) as contained:
        contained.becomes("closed")
        assert contained.command("traffic", "open").returncode == 0
        assert contained.told() == "open"


def test_a_proxy_is_told_of_loading_before_anything_else(directory: Path) -> None:
    with Contained(directory, TEST_LOAD="hang") as contained:
        contained.becomes("not-ready")
        assert contained.command("ready").returncode == 1
        assert contained.get("/items/0")[0] == 503
        contained.process.terminate()
        assert contained.end()[0] == 0


def test_one_that_cannot_load_ends_and_says_why(directory: Path) -> None:
    with Contained(directory, TEST_LOAD="fail") as contained:
        status, output = contained.end()
    assert status == 1
    assert "the weights are missing" in output


def test_the_private_routes_are_on_the_socket_alone(directory: Path) -> None:
    with Contained(directory) as contained:
        contained.becomes("open")
        assert contained.get("/private/status")[0] == 404
        status = json.loads(contained.command("ask", "GET", "/private/status").stdout)
        assert (status["id"], status["release"], status["traffic"]) == ("echo-a", "r7", "open")
        assert (directory / "run/echo-a.http").stat().st_mode & 0o777 == 0o600
        assert json.loads(contained.command("ask", "POST", "/private/proof").stdout) == {"device": "cpu"}
        assert contained.command("ask", "POST", "/echo", stdin="{}").returncode == 1
        assert contained.command("ready").returncode == 0


def test_commands_say_that_nobody_answers_and_what_there_is(directory: Path) -> None:
    stopped = Contained(directory)
    assert stopped.command("ready").returncode == 1
    assert "echo-a.http: No such file" in stopped.command("ask", "GET", "/health").stderr
    paused = stopped.command("traffic", "paused")
    assert (paused.returncode, stopped.gate.read_text()) == (0, "paused\n")
    assert "no instance answers" in paused.stdout
    unknown = stopped.command("pause")
    assert unknown.returncode == 2
    assert "traffic [open | paused]" in unknown.stderr


@pytest.mark.parametrize(
    ("variable", "value"),
    [("GPUCTL_INSTANCE", "../other"), ("GPUCTL_TRAFFIC", "shut"), ("GPUCTL_INSTANCE_FILE", "/proc/none")],
)
def test_a_variable_that_cannot_be_used_ends_it_with_its_name(
    directory: Path, variable: str, value: str
) -> None:
    with Contained(directory, **{variable: value}) as contained:
        status, output = contained.end()
    assert status == 1
    assert variable in output


def test_asked_to_end_it_answers_what_runs_and_ends_within_its_time(directory: Path) -> None:
    with Contained(directory) as contained:
        contained.becomes("open")
        answers: list[int] = []
        slow = threading.Thread(target=lambda: answers.append(contained.get("/items/1500")[0]))
        slow.start()
        eventually(lambda: _inflight(contained) == 1, "the request is being answered")
        contained.process.send_signal(signal.SIGTERM)
        slow.join(20)
        status, output = contained.end()
    assert (status, answers) == (0, [200])
    assert "requests-cut" not in output
    # It was open and its file says so: after a restart of the machine it takes traffic again.
    assert contained.gate.read_text() == "open\n"


def test_a_proxy_that_watches_is_told_before_connections_are_refused(directory: Path) -> None:
    with Contained(directory) as contained:
        contained.becomes("open")
        contained.process.send_signal(signal.SIGTERM)
        contained.becomes("paused")
        assert contained.get("/items/0")[0] == 200
        assert contained.end()[0] == 0


def test_a_second_signal_cuts(directory: Path) -> None:
    with Contained(directory) as contained:
        contained.becomes("open")
        waiting = http.client.HTTPConnection("127.0.0.1", contained.port, timeout=10)
        waiting.request("GET", "/items/30000")
        eventually(lambda: _inflight(contained) == 1, "the request is being answered")
        contained.process.send_signal(signal.SIGTERM)
        contained.becomes("paused")
        began = time.monotonic()
        contained.process.send_signal(signal.SIGTERM)
        assert contained.end()[0] == 0
        assert time.monotonic() - began < 10


def _inflight(contained: Contained) -> int:
    return int(json.loads(contained.command("ask", "GET", "/private/status").stdout)["inflight"])


def test_only_the_index_is_told_where_the_index_is(tmp_path: Path) -> None:
    env = {"GPUCTL_INSTANCE": "a", "GPUCTL_RUN_DIR": str(tmp_path), "GPUCTL_TRAFFIC_DIR": str(tmp_path)}
    place = Place.read(env)
    assert "GPUCTL_INDEX_DIR" not in service_environment("embedder", env, place)
    assert service_environment("index", env, place)["GPUCTL_INDEX_DIR"] == "/var/lib/gpuctl/index"
    own = {**env, "GPUCTL_INDEX_DIR": "/elsewhere"}
    assert service_environment("index", own, place)["GPUCTL_INDEX_DIR"] == "/elsewhere"
