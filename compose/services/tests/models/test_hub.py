"""The hub source, against a local endpoint that speaks the hub's protocol."""

import asyncio
import hashlib
import io
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import orjson
import pytest

from gpuctl_serving.models.errors import ModelProblem
from gpuctl_serving.models.fetch import fetch
from gpuctl_serving.models.manifest import read_manifest
from gpuctl_serving.models.progress import Progress
from gpuctl_serving.models.spec import parse_spec
from gpuctl_serving.models.store import ModelStore

SOURCES = Path(__file__).parents[2] / "src"
COMMIT = "a" * 40
MODEL = "someone/tiny"


#: On a busy machine nobody may give up early: neither the library (after 10 s) nor the test.
PATIENT = {"HF_HUB_ETAG_TIMEOUT": "120", "HF_HUB_DOWNLOAD_TIMEOUT": "120"}
PATIENCE_SECONDS = 240


class Backlog(ThreadingHTTPServer):
    """The library opens many connections at once; the usual queue of five drops some of them."""

    request_queue_size = 128


class Hub(BaseHTTPRequestHandler):
    """Two routes of the hub: the tree of a revision, and its files."""

    folder: Path

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def _answer(self, *, with_body: bool) -> None:
        path = self.path.partition("?")[0]
        if path.rstrip("/") == f"/api/models/{MODEL}/tree/{COMMIT}":
            files = [f for f in self.folder.rglob("*") if f.is_file()]
            tree = [
                {
                    "type": "file",
                    "path": str(f.relative_to(self.folder)),
                    "size": f.stat().st_size,
                    "oid": "0" * 40,
                }
                for f in files
            ]
            self._send(orjson.dumps(tree), with_body=with_body)
            return
        name = path.removeprefix(f"/{MODEL}/resolve/{COMMIT}/")
        file = self.folder / name
        if name == path or not file.is_file():
            self.send_response(404)
            self.send_header("X-Error-Code", "RepoNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self._send(file.read_bytes(), with_body=with_body)

    def _send(self, content: bytes, *, with_body: bool) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Content-Type", "application/json")
        self.send_header("ETag", '"' + hashlib.sha256(content).hexdigest()[:40] + '"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        if with_body:
            self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        return


@pytest.fixture
def endpoint(golden: Path) -> Iterator[str]:
    handler = type("TinyHub", (Hub,), {"folder": golden / "models/tiny-xlmr-cross-encoder"})
    server = Backlog(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def fetched(endpoint: str, home: Path, store: Path, **more: str) -> tuple[int, dict[str, Any]]:
    spec = json.dumps({"source": "hub", "id": MODEL, "revision": COMMIT})
    done = subprocess.run(
        [sys.executable, "-m", "gpuctl_serving.models", "fetch", "--spec", spec, "--store", str(store)],
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(SOURCES),
            "HF_ENDPOINT": endpoint,
            "HF_HOME": str(home),
            "HF_HUB_DISABLE_XET": "1",
            **PATIENT,
            **more,
        },
        capture_output=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    assert done.stdout, done.stderr.decode()
    return done.returncode, orjson.loads(done.stdout.splitlines()[-1])


def test_a_pinned_commit_is_fetched_and_found_again_offline(endpoint: str, tmp_path: Path) -> None:
    status, result = fetched(endpoint, tmp_path / "hf", tmp_path / "store")
    assert status == 0, result
    manifest = read_manifest(Path(result["directory"]))
    assert (manifest.id, manifest.revision, manifest.kind) == (MODEL, COMMIT, "cross-encoder")
    assert manifest.source == {"source": "hub", "id": MODEL, "revision": COMMIT}
    status, again = fetched("http://127.0.0.1:9", tmp_path / "hf", tmp_path / "other", HF_HUB_OFFLINE="1")
    assert status == 0, again
    status, error = fetched("http://127.0.0.1:9", tmp_path / "empty", tmp_path / "third", HF_HUB_OFFLINE="1")
    assert (status, error["event"]) == (1, "error")
    assert "cache" in error["message"]
    assert error["next"]


def test_a_model_the_hub_does_not_have_is_an_error_that_says_so(endpoint: str, tmp_path: Path) -> None:
    spec = json.dumps({"source": "hub", "id": "someone/else", "revision": COMMIT})
    env = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(SOURCES),
        "HF_ENDPOINT": endpoint,
        "HF_HOME": str(tmp_path),
        **PATIENT,
    }
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "gpuctl_serving.models",
            "fetch",
            "--spec",
            spec,
            "--store",
            str(tmp_path / "s"),
        ],
        env=env,
        capture_output=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    event = orjson.loads(done.stdout.splitlines()[-1])
    assert (done.returncode, event["event"]) == (1, "error")
    assert "someone/else" in event["message"]
    assert not (tmp_path / "s" / "someone--else").exists()


@pytest.mark.parametrize("revision", ["main", "v1.0", "abc123", "A" * 40])
def test_a_revision_that_can_move_is_refused(revision: str, tmp_path: Path) -> None:
    spec = parse_spec(json.dumps({"source": "hub", "id": MODEL, "revision": revision}))
    with pytest.raises(ModelProblem, match="can move"):
        asyncio.run(fetch(spec, ModelStore(tmp_path), Progress(io.StringIO())))
