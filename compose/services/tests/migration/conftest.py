"""An index, an embedder and an old FAISS file, for the tests of migrations."""

import json
import os
import subprocess
import sys
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

    def found(self, text: str, namespace: str = "default") -> list[str | int]:
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
