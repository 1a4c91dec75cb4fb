"""A whole migration against a running index: checked, backed up, loaded aside, measured, switched, undone."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import faiss
import httpx
import numpy as np
import pytest

from tests.index.instances import Instance, public_socket
from tests.index.stub_embedder import StubEmbedder

SOURCES = Path(__file__).parents[2] / "src"
DIMENSION = 8
BASE = "/api/v1/vector-store"


class World:
    """An index and an embedder, an old FAISS file made with that embedder, and its documents."""

    def __init__(self, directory: Path, instance: Instance, embedder: StubEmbedder) -> None:
        self.directory, self.instance, self.embedder = directory, instance, embedder
        self.file, self.documents = directory / "old.faiss", directory / "old.jsonl"

    def write(self, count: int, index: Any = None) -> None:
        """Makes the old index."""
        texts = [f"text {number}" for number in range(count)]
        rows = np.array([self.embedder.vector(text) for text in texts], np.float32)
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        made = faiss.IndexFlatL2(DIMENSION) if index is None else index(rows)
        if index is None:
            made.add(rows)
        faiss.write_index(made, str(self.file))
        lines = [json.dumps({"id": f"doc-{n}", "text": t, "metadata": {"n": n}}) for n, t in enumerate(texts)]
        self.documents.write_text("\n".join(lines))

    def spec(self, **more: Any) -> bytes:
        made = {
            "indexPath": str(self.file), "backupDir": str(self.directory / "backup"), "namespace": "default",
            "index": {"address": self.instance.address}, "embedder": {"address": self.embedder.address},
        }  # fmt: skip
        return json.dumps(made | more).encode()

    def start(self, **more: Any) -> "subprocess.Popen[bytes]":
        child = subprocess.Popen(
            [sys.executable, "-m", "gpuctl_serving.migration"],
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(SOURCES)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert child.stdin is not None
        child.stdin.write(self.spec(**more))
        child.stdin.close()
        child.stdin = None
        return child

    def run(self, **more: Any) -> tuple[int, dict[str, Any]]:
        child = self.start(**more)
        output, _ = child.communicate(timeout=60)
        return child.returncode, json.loads(output.splitlines()[-1])

    def post(self, route: str, body: Any) -> Any:
        transport = httpx.HTTPTransport(uds=str(self.instance.private_path))
        with httpx.Client(transport=transport, base_url="http://index", timeout=20) as client:
            answer = client.post(f"{BASE}/{route}", json=body)
            assert answer.status_code == 200, answer.text
            return answer.json()

    def found(self, text: str, namespace: str = "default") -> list[str]:
        body = {"vector": self.embedder.vector(text), "k": 3, "namespace": namespace}
        return [hit["id"] for hit in self.post("search", body)["results"][0]]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    listener = public_socket()
    with StubEmbedder(tmp_path / "embedder.sock", dimension=DIMENSION) as embedder:
        settings = {"index_dimension": DIMENSION, "embedder_url": embedder.address}
        instance = Instance(tmp_path, "index-a", listener, **settings)
        try:
            instance.wait_ready()
            yield World(tmp_path, instance, embedder)
        finally:
            instance.kill()
            listener.close()


def test_a_file_is_taken_over_and_given_back(world: World) -> None:
    world.write(300)
    world.post("add", {"items": [{"id": "before", "vector": [1.0] * DIMENSION}]})
    status, result = world.run()
    assert status == 0, result
    assert result["check"]["model"]["meanCosine"] == pytest.approx(1.0, abs=1e-5)
    assert result["load"]["items"] == 300
    assert (result["verify"]["recall"], result["verify"]["sourceRecall"]) == (1.0, 1.0)
    assert world.found("text 17")[0] == "doc-17"
    assert world.found("x", result["switch"]["kept"]) == ["before"]
    assert (world.directory / "backup/old.faiss").read_bytes() == world.file.read_bytes()
    assert world.run(action="undo")[0] == 0
    assert world.found("x") == ["before"]


def test_a_check_changes_nothing(world: World) -> None:
    world.write(20)
    status, result = world.run(action="check")
    assert (status, result["check"]["source"]["type"]) == (0, "IndexFlatL2")
    assert not (world.directory / "backup").exists()
    assert world.found("text 1") == []


def test_a_second_run_finds_everything_done(world: World) -> None:
    world.write(50)
    first = world.run()[1]
    again = world.run()[1]
    assert {step: again[step] for step in ("load", "switch")} == {
        step: first[step] for step in ("load", "switch")
    }
    assert world.found("text 3")[0] == "doc-3"


def test_killed_while_loading_it_goes_on_where_it_was(world: World) -> None:
    world.write(6000)
    journal = world.directory / "backup/migration.json"
    child = world.start()
    until = time.monotonic() + 30
    while not (journal.exists() and '"upto": 1' in journal.read_text()):
        assert time.monotonic() < until, "it never got so far"
        assert child.poll() is None, "it was too fast to be killed"
        time.sleep(0.002)
    child.send_signal(signal.SIGKILL)
    child.communicate()
    assert world.found("text 5") == [], "nothing is served before the switch"
    status, result = world.run()
    assert status == 0, result
    assert result["verify"]["recall"] == 1.0
    assert world.found("text 5999")[0] == "doc-5999"


def test_vectors_of_another_model_are_refused_unless_made_again(world: World) -> None:
    world.write(40)
    world.embedder.model = "two"
    status, said = world.run()
    assert (status, "not made by the deployed embedding model" in said["message"]) == (1, True)
    assert "--re-embed" in said["next"]
    status, result = world.run(reEmbed=True)
    assert status == 0, result
    assert world.found("text 7")[0] == "doc-7"


def test_an_index_that_lost_too_much_stays_out_of_service(world: World) -> None:
    def compressed(rows: Any) -> Any:
        index = faiss.index_factory(DIMENSION, "IVF4,PQ2x4")
        index.train(rows)
        index.add(rows)
        return index

    world.write(1200, compressed)
    status, said = world.run()
    assert (status, "approximations" in said["message"]) == (1, True)
    # As good as the source, which is not good: allowed when it is said.
    status, result = world.run(acceptLossy=True, assumeSameModel=True, recallLoss=1.0)
    assert status == 0, result
    assert 0 < result["verify"]["sourceRecall"] < 1


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"dimension": 16}, "--dimension 8"),
        ({"indexPath": "/nowhere/index.faiss"}, "--index-path"),
        ({"backupDir": "/proc/nowhere"}, "--backup-dir"),
        ({"index": {"address": "unix:/nowhere.sock", "patience": 0.1}}, "gpuctl status"),
    ],
)
def test_what_cannot_be_done_says_the_next_step(world: World, change: dict[str, Any], said: str) -> None:
    world.write(10)
    status, result = world.run(**change)
    assert (status, said in result["next"]) == (1, True), result
    assert world.found("text 1") == []
