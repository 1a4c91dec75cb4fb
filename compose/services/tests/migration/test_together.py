"""Migrations beside each other, beside a deploy, and beside an index that dies: one file serves, whole."""

import json
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from gpuctl_serving.migration import peers
from gpuctl_serving.migration.problems import MigrationProblem
from gpuctl_serving.migration.spec import Peer
from tests.index.instances import Instance, hand_over, public_socket, wait_until
from tests.index.stub_embedder import StubEmbedder
from tests.migration.conftest import BASE, DIMENSION, World

COUNT = 3000


def outcome(child: "subprocess.Popen[bytes]") -> tuple[int, dict[str, Any]]:
    output, _ = child.communicate(timeout=120)
    return child.returncode, json.loads(output.splitlines()[-1])


def until_loading(world: World, name: str = "backup") -> None:
    """Returns in the middle of the load."""
    journal = world.directory / name / "migration.json"
    wait_until(lambda: journal.exists() and '"upto"' in journal.read_text(), "the load began")


def namespaces(world: World) -> dict[str, int]:
    found: dict[str, int] = peers.stats(Peer(world.instance.address))["namespaces"]
    return found


@pytest.mark.parametrize("pause", [0.0, 0.3, 1.0])
def test_two_of_the_same_file_at_once_end_with_the_file_in_service(world: World, pause: float) -> None:
    world.write(COUNT)
    world.post("add", {"items": [{"id": "before", "vector": [1.0] * DIMENSION}]})
    places = [{"backupDir": str(world.directory / name)} for name in ("one", "two")]
    children = []
    for place in places:
        children.append(world.start(**place))
        time.sleep(pause)
    ended = [outcome(child) for child in children]
    assert any(status == 0 for status, _ in ended), ended
    for (status, said), place in zip(ended, places, strict=True):
        # Whoever found its items renamed away says so, and the same command goes on.
        assert status == 0 or said["next"], said
        if status:
            assert "re-embed" not in said["next"], said
            again, result = world.run(**place)
            assert again == 0, (said, result)
    counts = namespaces(world)
    assert counts.pop("default") == COUNT
    assert world.found("text 2999")[0] == f"doc-{COUNT - 1}"
    kept = [name for name in counts if world.found("x", name) == ["before"]]
    assert len(kept) == 1, counts


def test_two_files_into_one_namespace_at_once_are_never_mixed(world: World) -> None:
    world.write(COUNT)
    one = world.start(backupDir=str(world.directory / "one"))
    until_loading(world, "one")
    other = world.directory / "other"
    other.mkdir()
    second = World(other, world.instance, world.embedder)
    second.write(COUNT // 2)
    two = second.start(backupDir=str(world.directory / "two"))
    ended = [outcome(one), outcome(two)]
    assert any(status == 0 for status, _ in ended), ended
    if ended[0][0]:
        assert world.run(backupDir=str(world.directory / "one"))[0] == 0
    if ended[1][0]:
        assert second.run(backupDir=str(world.directory / "two"))[0] == 0
    counts = namespaces(world)
    assert counts["default"] in (COUNT, COUNT // 2), counts
    assert sorted(counts.values()) == [COUNT // 2, COUNT]


def test_an_index_that_dies_under_the_load_is_waited_for(world: World) -> None:
    world.write(COUNT)
    child = world.start()
    until_loading(world)
    world.instance.kill()
    listener = public_socket()
    settings = {"index_dimension": DIMENSION, "embedder_url": world.embedder.address}
    world.instance = Instance(world.directory, "index-a", listener, **settings)
    try:
        world.instance.wait_ready()
        status, result = outcome(child)
        assert status == 0, result
        assert world.found("text 2999")[0] == f"doc-{COUNT - 1}" and namespaces(world) == {"default": COUNT}
    finally:
        world.instance.kill()
        listener.close()


class Stage:
    """A public socket and the instances behind it, as a deploy has them."""

    def __init__(self, directory: Path, embedder: StubEmbedder) -> None:
        self.directory, self.embedder = directory, embedder
        self.listener: socket.socket = public_socket()
        self.instances: list[Instance] = []

    def start(self, name: str) -> Instance:
        settings = {"index_dimension": DIMENSION, "embedder_url": self.embedder.address}
        made = Instance(self.directory, name, self.listener, **settings)
        self.instances.append(made)
        made.wait_ready()
        return made


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    with StubEmbedder(tmp_path / "embedder.sock", dimension=DIMENSION) as embedder:
        made = Stage(tmp_path, embedder)
        try:
            yield made
        finally:
            for instance in made.instances:
                instance.kill()
            made.listener.close()


def test_deploys_that_move_the_writer_again_and_again_are_not_noticed(stage: Stage) -> None:
    serving = stage.start("first-a")
    assert serving.control("accept")["ok"]
    world = World(stage.directory, serving, stage.embedder)
    world.write(2 * COUNT)
    world.post("add", {"items": [{"id": "before", "vector": [1.0] * DIMENSION}]})
    address = f"http://127.0.0.1:{stage.listener.getsockname()[1]}"
    child = world.start(index={"address": address})
    moves = 0
    while child.poll() is None and moves < 6:
        candidate = stage.start(f"next{moves}-{'ba'[moves % 2]}")
        hand_over(serving, candidate)
        serving.control("exit")
        serving, moves = candidate, moves + 1
    status, result = outcome(child)
    assert status == 0 and moves >= 1, (moves, result)
    world.instance = serving
    counts = namespaces(world)
    assert counts.pop("default") == 2 * COUNT and list(counts.values()) == [1], counts
    assert world.found("text 5999")[0] == f"doc-{2 * COUNT - 1}"


class Replies(ThreadingHTTPServer):
    """Answers requests one after the other with what it was given."""

    def __init__(self, *answers: tuple[int, dict[str, Any]]) -> None:
        self.answers, self.asked = list(answers), list[str]()
        super().__init__(("127.0.0.1", 0), _Handler)


class _Handler(BaseHTTPRequestHandler):
    server: Replies
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.rfile.read(int(self.headers.get("content-length", 0)))
        self.server.asked.append(f"{self.command} {self.path.removeprefix(BASE)}")
        status, body = self.server.answers.pop(0)
        raw = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    do_POST = do_GET

    def log_message(self, format: str, *args: Any) -> None:
        """Silent."""


def asked(*answers: tuple[int, dict[str, Any]]) -> tuple[list[str], Any]:
    """What `job` asks an index that answers so, and what it makes of that."""
    with Replies(*answers) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            said: Any = peers.job(Peer(f"http://127.0.0.1:{server.server_port}"), "snapshot")
        except MigrationProblem as problem:
            said = problem.because
        server.shutdown()
        return server.asked, said


def test_a_job_that_takes_long_is_waited_for_and_begun_again_where_it_was_forgotten() -> None:
    done = {"job": "j7", "state": "done", "result": {"snapshot": "s1"}}
    found = asked(
        (202, {"job": "j1", "state": "waiting"}),
        (404, {"message": "There is no job 'j1' here"}),
        (202, {"job": "j7", "state": "running"}),
        (200, {"job": "j7", "state": "running"}),
        (200, done),
    )
    assert found == (
        ["POST /snapshot", "GET /jobs/j1", "POST /snapshot", "GET /jobs/j7", "GET /jobs/j7"],
        {"snapshot": "s1"},
    )
    failed = {"job": "j1", "state": "failed", "error": "No snapshot was made: no room."}
    assert asked((202, {"job": "j1", "state": "running"}), (200, failed))[1] == (
        "No snapshot was made: no room"
    )
