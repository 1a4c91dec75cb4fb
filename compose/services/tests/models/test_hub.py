"""The hub source, against a local server that speaks the hub's routes."""

import asyncio
import errno
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import orjson
import pytest
from tests.support.hub import CERTIFICATE, COMMIT, MODEL, FakeHub, serve_hub
from tests.support.shards import cut_into_shards

from gpuctl_serving.models import __main__ as fetcher
from gpuctl_serving.models import hub_download
from gpuctl_serving.models.__main__ import main
from gpuctl_serving.models.errors import ModelProblem
from gpuctl_serving.models.fetch import fetch
from gpuctl_serving.models.hub import DOWNLOADS
from gpuctl_serving.models.hub_environment import HubEnvironment
from gpuctl_serving.models.manifest import read_manifest
from gpuctl_serving.models.progress import Progress
from gpuctl_serving.models.spec import HubSpec, parse_spec
from gpuctl_serving.models.store import ModelStore

SOURCES = Path(__file__).parents[2] / "src"
WEIGHTS = "model.safetensors"
MINE = "hf_notforanyone"


class Fetching:
    """A store, a hub, and fetches from one to the other."""

    def __init__(self, tmp_path: Path, serve: Callable[[FakeHub], str], hub: FakeHub) -> None:
        self.tmp_path = tmp_path
        self.hub = hub
        self.serve = serve
        self.store = ModelStore(tmp_path / "store")
        self.told = io.StringIO()

    def run(self, **options: Any) -> Path:
        spec = HubSpec(id=MODEL, **{"revision": COMMIT, **options})
        return asyncio.run(fetch(spec, self.store, Progress(self.told))).directory

    def parts(self) -> list[Path]:
        return sorted((self.store.root / DOWNLOADS).rglob("*.part"))


@pytest.fixture
def serve() -> Iterator[Callable[[FakeHub], str]]:
    with ExitStack() as stack:
        yield lambda hub: stack.enter_context(serve_hub(hub))


@pytest.fixture
def fetching(
    golden: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, serve: Callable[[FakeHub], str]
) -> Fetching:
    """A hub with the tiny cross-encoder, in an environment that knows nothing else."""
    for name in list(os.environ):
        if name.startswith(("HF_", "HTTP", "http", "REQUESTS", "CURL", "SSL")) or name.lower() == "no_proxy":
            monkeypatch.delenv(name)
    hub = FakeHub.of(golden / "models/tiny-xlmr-cross-encoder")
    monkeypatch.setenv("HF_ENDPOINT", serve(hub))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setattr(hub_download, "_LONGEST_WAIT_SECONDS", 0.01)
    return Fetching(tmp_path, serve, hub)


def test_a_pinned_commit_is_fetched_through_a_relative_redirect(fetching: Fetching) -> None:
    manifest = read_manifest(fetching.run())
    assert (manifest.id, manifest.revision, manifest.kind) == (MODEL, COMMIT, "cross-encoder")
    assert manifest.source == {"source": "hub", "id": MODEL, "revision": COMMIT}
    assert not (fetching.store.root / DOWNLOADS / "someone--tiny" / COMMIT).exists()
    events = [orjson.loads(line) for line in fetching.told.getvalue().splitlines()]
    downloads = [event for event in events if event["label"] == "download"]
    assert downloads[-1]["done"] == downloads[-1]["total"] > len(fetching.hub.files[WEIGHTS])
    assert [request.path for request in fetching.hub.requests if request.path.endswith(".onnx")] == []


def test_without_a_revision_the_commit_of_main_is_resolved_and_recorded(fetching: Fetching) -> None:
    manifest = read_manifest(fetching.run(revision=None))
    assert manifest.revision == COMMIT
    assert manifest.source["revision"] == COMMIT


@pytest.mark.parametrize("kept", [1, 20_000, 100_001])
def test_a_dropped_download_goes_on_where_it_broke_off(fetching: Fetching, kept: int) -> None:
    fetching.hub.cuts = [kept, kept]
    fetching.run()
    asked = [request.headers.get("range") for request in fetching.hub.downloads(WEIGHTS)]
    assert asked == [None, f"bytes={kept}-", f"bytes={2 * kept}-"]


def test_a_server_that_ignores_ranges_is_read_from_the_start(fetching: Fetching) -> None:
    fetching.hub.cuts, fetching.hub.ignore_ranges = [50_000], True
    fetching.run()
    assert len(fetching.hub.downloads(WEIGHTS)) == 2


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_busy_hub_is_asked_again(fetching: Fetching, status: int) -> None:
    fetching.hub.refusals = [status] * 3
    fetching.run()


def test_a_hub_that_stays_down_is_an_error_and_what_came_is_kept(fetching: Fetching) -> None:
    fetching.hub.cuts = [60_000] + [0] * 20
    with pytest.raises(ModelProblem, match="broke off") as failed:
        fetching.run()
    assert "goes on where it ended" in failed.value.next_step
    assert fetching.store.list() == ([], [])
    assert [part.stat().st_size for part in fetching.parts()] == [60_000]
    fetching.hub.cuts = []
    fetching.run()
    assert fetching.hub.downloads(WEIGHTS)[-1].headers["range"] == "bytes=60000-"
    assert fetching.parts() == []


def test_a_beginning_of_another_file_is_thrown_away_and_fetched_once_more(fetching: Fetching) -> None:
    content = fetching.hub.files[WEIGHTS]
    part = fetching.store.root / DOWNLOADS / "someone--tiny" / COMMIT / f"{WEIGHTS}.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(b"another file" + content[12:70_000])
    fetching.run()
    part.parent.mkdir(parents=True, exist_ok=True)
    part.write_bytes(content + b"longer than it should be")
    fetching.run()


def test_bytes_that_are_not_what_the_hub_lists_are_refused(fetching: Fetching) -> None:
    content = bytearray(fetching.hub.files[WEIGHTS])
    content[-5] ^= 1
    fetching.hub.replaced[WEIGHTS] = bytes(content)
    with pytest.raises(ModelProblem, match="wrong hash"):
        fetching.run()
    assert (fetching.store.list(), fetching.parts()) == (([], []), [])


def test_a_small_file_is_checked_by_the_hash_of_git(fetching: Fetching) -> None:
    fetching.hub.replaced["config.json"] = fetching.hub.files["config.json"].replace(b"1", b"2")
    with pytest.raises(ModelProblem, match=r"config\.json .* has the wrong hash"):
        fetching.run()


def test_a_file_that_ends_early_is_never_taken(fetching: Fetching) -> None:
    fetching.hub.replaced[WEIGHTS] = fetching.hub.files[WEIGHTS][:-1000]
    with pytest.raises(ModelProblem, match="broke off"):
        fetching.run()
    assert fetching.store.list() == ([], [])


def test_a_mirror_that_lists_only_names_is_checked_by_its_headers(fetching: Fetching) -> None:
    fetching.hub.names_only = True
    assert read_manifest(fetching.run()).revision == COMMIT
    content = bytearray(fetching.hub.files[WEIGHTS])
    content[100_000] ^= 1
    fetching.hub.replaced[WEIGHTS] = bytes(content)
    with pytest.raises(ModelProblem, match="wrong hash"):
        fetching.run()
    fetching.hub.no_hashes = True
    with pytest.raises(ModelProblem, match="cannot be checked"):
        fetching.run()


def test_weights_in_several_files_give_the_same_model(fetching: Fetching) -> None:
    whole = read_manifest(fetching.run()).files["model.onnx"]
    cut_into_shards(fetching.hub.files, 3)
    shutil.rmtree(fetching.store.root)
    cut = fetching.run()
    assert read_manifest(cut).files["model.onnx"] == whole
    assert (
        len({r.path for r in fetching.hub.requests if "-of-00003" in r.path and "/storage/" in r.path}) == 3
    )


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "model.ckpt"])
def test_a_repository_of_pickles_is_refused_before_anything_is_downloaded(
    fetching: Fetching, name: str
) -> None:
    for weights in (WEIGHTS, "model.onnx"):
        fetching.hub.files.pop(weights, None)
    fetching.hub.files[name] = b"\x80\x04K\x01."
    with pytest.raises(ModelProblem, match="pickle") as refused:
        fetching.run()
    assert "safetensors" in refused.value.next_step
    assert [request for request in fetching.hub.requests if "/resolve/" in request.path] == []


def test_a_pickle_named_safetensors_is_not_one(fetching: Fetching) -> None:
    fetching.hub.files[WEIGHTS] = b"\x80\x04\x95" + b"\x00" * 500
    with pytest.raises(ModelProblem, match="not a safetensors file"):
        fetching.run()


@pytest.mark.parametrize("name", ["../evil.json", "/etc/evil.json"])
def test_a_file_outside_the_repository_is_refused(fetching: Fetching, name: str) -> None:
    index = {"weight_map": {"a": name}}
    fetching.hub.files = {
        **{k: v for k, v in fetching.hub.files.items() if not k.endswith((".safetensors", ".onnx"))},
        "model.safetensors.index.json": orjson.dumps(index),
        "model-00001-of-00001.safetensors": b"",
    }
    with pytest.raises(ModelProblem, match="makes no sense"):
        fetching.run()


def test_the_token_goes_to_the_hub_and_to_nobody_else(
    fetching: Fetching, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = FakeHub(fetching.hub.files)
    fetching.hub.token, fetching.hub.storage = MINE, fetching.serve(elsewhere)
    with pytest.raises(ModelProblem, match="does not give") as refused:
        fetching.run()
    assert "HF_TOKEN" in refused.value.next_step
    monkeypatch.setenv("HF_TOKEN", MINE)
    fetching.run()
    asked = [request.headers.get("authorization") for request in fetching.hub.requests]
    assert f"Bearer {MINE}" in asked
    assert len(elsewhere.requests) == 1
    assert "authorization" not in elsewhere.requests[0].headers
    assert MINE not in fetching.told.getvalue()
    assert MINE not in repr(HubEnvironment.of(os.environ))


def test_a_stored_token_is_shown_to_the_real_hub_only(tmp_path: Path) -> None:
    (tmp_path / "token").write_text(MINE)
    assert HubEnvironment.of({"HF_HOME": str(tmp_path)}).token == MINE
    assert HubEnvironment.of({"HF_HOME": str(tmp_path), "HF_ENDPOINT": "http://mirror"}).token is None
    assert HubEnvironment.of({"HF_HOME": str(tmp_path), "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1"}).token is None


def test_a_gated_model_says_that_its_terms_are_to_be_accepted(fetching: Fetching) -> None:
    fetching.hub.gated = True
    with pytest.raises(ModelProblem, match="GatedRepo") as refused:
        fetching.run()
    assert "accept its terms" in refused.value.next_step


def test_a_proxy_carries_the_requests_unless_the_host_is_excepted(
    fetching: Fetching, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A plain HTTP proxy is asked for absolute addresses; this hub answers them all the same.
    monkeypatch.setenv("HTTP_PROXY", os.environ["HF_ENDPOINT"])
    monkeypatch.setenv("http_proxy", os.environ["HF_ENDPOINT"])
    monkeypatch.setenv("HF_ENDPOINT", "http://hub.example.invalid")
    fetching.run()
    assert {request.headers["host"] for request in fetching.hub.requests} == {"hub.example.invalid"}
    monkeypatch.setenv("NO_PROXY", "hub.example.invalid")
    monkeypatch.setenv("no_proxy", "hub.example.invalid")
    shutil.rmtree(fetching.store.root)
    with pytest.raises(ModelProblem, match="cannot be downloaded"):
        fetching.run()


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
def test_a_private_certificate_is_trusted_when_a_variable_names_it_and_only_then(
    fetching: Fetching, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    with serve_hub(fetching.hub, tls=True) as address:
        monkeypatch.setenv("HF_ENDPOINT", address)
        with pytest.raises(ModelProblem, match="CERTIFICATE_VERIFY_FAILED"):
            fetching.run()
        monkeypatch.setenv(variable, str(CERTIFICATE))
        fetching.run()


def test_https_is_never_left_for_http(fetching: Fetching, monkeypatch: pytest.MonkeyPatch) -> None:
    fetching.hub.storage = os.environ["HF_ENDPOINT"]
    with serve_hub(fetching.hub, tls=True) as address:
        monkeypatch.setenv("HF_ENDPOINT", address)
        monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE))
        with pytest.raises(ModelProblem, match="not as safe"):
            fetching.run()


def test_a_model_the_hub_does_not_have_is_an_error_that_says_so(fetching: Fetching) -> None:
    spec = HubSpec(id="someone/else", revision=COMMIT)
    with pytest.raises(ModelProblem, match="someone/else"):
        asyncio.run(fetch(spec, fetching.store, Progress(io.StringIO())))
    assert fetching.store.list() == ([], [])


@pytest.mark.parametrize("revision", ["main", "v1.0", "abc123", "A" * 40])
def test_a_revision_that_can_move_is_refused(revision: str, tmp_path: Path) -> None:
    spec = parse_spec(json.dumps({"source": "hub", "id": MODEL, "revision": revision}))
    with pytest.raises(ModelProblem, match="can move"):
        asyncio.run(fetch(spec, ModelStore(tmp_path), Progress(io.StringIO())))


def test_offline_the_cache_of_the_hubs_tools_is_enough_and_nothing_is_asked(
    fetching: Fetching, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ModelProblem, match="not in the hub's cache"):
        fetching.run()
    repository = fetching.tmp_path / "hf/hub/models--someone--tiny"
    fill_cache(repository, fetching.hub.files)
    assert read_manifest(fetching.run()).revision == COMMIT
    assert read_manifest(fetching.run(revision=None)).revision == COMMIT
    assert fetching.hub.requests == []


def test_what_the_cache_holds_is_not_downloaded_unless_it_is_damaged(fetching: Fetching) -> None:
    repository = fetching.tmp_path / "hf/hub/models--someone--tiny"
    fill_cache(repository, {WEIGHTS: fetching.hub.files[WEIGHTS]})
    fetching.run()
    assert fetching.hub.downloads(WEIGHTS) == []
    snapshot = repository / "snapshots" / COMMIT / WEIGHTS
    snapshot.write_bytes(snapshot.read_bytes()[:-1] + b"?")
    shutil.rmtree(fetching.store.root)
    fetching.run()
    assert len(fetching.hub.downloads(WEIGHTS)) == 1


def fill_cache(repository: Path, files: dict[str, bytes]) -> None:
    """As huggingface_hub lays it out."""
    (repository / "refs").mkdir(parents=True)
    (repository / "refs/main").write_text(COMMIT)
    for name, content in files.items():
        file = repository / "snapshots" / COMMIT / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)


def test_a_full_disk_is_said_before_the_download_when_sizes_are_known(
    fetching: Fetching, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(fetching.tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(ModelProblem, match="still to be downloaded"):
        fetching.run()
    assert [request for request in fetching.hub.requests if "/resolve/" in request.path] == []


def test_a_disk_that_fills_up_leaves_a_part_that_is_used_again(
    fetching: Fetching, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = hub_download._receive
    written: list[Path] = []

    def full(opened: Any, part: Path, start: int, told: Any) -> None:
        if part.name.startswith(WEIGHTS) and not written:
            part.write_bytes(opened.body.read(30_000))
            written.append(part)
            raise OSError(errno.ENOSPC, "No space left on device")
        real(opened, part, start, told)

    monkeypatch.setattr(hub_download, "_receive", full)
    with pytest.raises(ModelProblem, match="the disk is full"):
        fetching.run()
    assert fetching.store.list() == ([], [])
    fetching.run()
    assert fetching.hub.downloads(WEIGHTS)[-1].headers["range"] == "bytes=30000-"


def test_kill_9_in_the_middle_leaves_no_model_and_the_next_fetch_goes_on(fetching: Fetching) -> None:
    halted, go = threading.Event(), threading.Event()

    def hold(sent: int) -> None:
        if sent >= 64 * 1024 and not go.is_set():
            halted.set()
            go.wait(60)

    fetching.hub.before_block = hold
    child = start_fetch(fetching)
    try:
        assert halted.wait(60), "the download did not begin"
        until = time.monotonic() + 20
        while not any(part.stat().st_size for part in fetching.parts()) and time.monotonic() < until:
            time.sleep(0.02)
        child.send_signal(signal.SIGKILL)
        child.wait(10)
    finally:
        child.kill()
        child.wait(10)
        go.set()
    assert fetching.store.list() == ([], [])
    fetching.run()
    assert fetching.parts() == []


def test_an_interrupted_download_ends_at_once_and_keeps_what_came(fetching: Fetching) -> None:
    halted, go = threading.Event(), threading.Event()

    def hold(sent: int) -> None:
        if sent >= 64 * 1024:
            halted.set()
            go.wait(60)

    fetching.hub.before_block = hold
    child = start_fetch(fetching)
    try:
        assert halted.wait(60), "the download did not begin"
        child.terminate()
        output, errors = child.communicate(timeout=10)
    finally:
        child.kill()
        child.wait(10)
        go.set()
    assert child.returncode == 1
    assert orjson.loads(output.splitlines()[-1])["message"] == "interrupted"
    assert MINE.encode() not in output + errors


def test_no_alarm_outlives_a_fetch(fetching: Fetching, monkeypatch: pytest.MonkeyPatch) -> None:
    armed: list[tuple[float, float]] = []

    def listing(*_: object) -> dict[str, Any]:
        armed.append(signal.getitimer(signal.ITIMER_REAL))
        return {"models": []}

    monkeypatch.setattr(fetcher, "_COMMANDS", {"list": listing})
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGALRM)}
    try:
        assert fetcher.main(["list", "--store", str(fetching.store.root)]) == 0
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert armed[0][1] == 1.0
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def start_fetch(fetching: Fetching) -> subprocess.Popen[bytes]:
    spec = json.dumps({"source": "hub", "id": MODEL, "revision": COMMIT})
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "gpuctl_serving.models", "fetch"),
            *("--spec", spec, "--store", str(fetching.store.root)),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={"PYTHONPATH": str(SOURCES), "HF_ENDPOINT": os.environ["HF_ENDPOINT"], "HF_TOKEN": MINE},
    )


def test_two_fetches_of_one_commit_share_one_download(fetching: Fetching) -> None:
    found: list[Path] = []
    threads = [threading.Thread(target=lambda: found.append(fetching.run())) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(found) == 2
    assert found[0] == found[1]
    assert read_manifest(found[0]).revision == COMMIT


def test_settings_of_the_hub_come_by_stdin_and_nothing_else_does(
    fetching: Fetching, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given = {"HF_ENDPOINT": os.environ["HF_ENDPOINT"], "HF_TOKEN": "hf_secret", "PATH": "/nowhere"}
    fetching.hub.token = given["HF_TOKEN"]
    # Set, so that they are put back.
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("HF_TOKEN", "")
    path = os.environ["PATH"]
    spec = orjson.dumps({"source": "hub", "id": MODEL, "revision": COMMIT}).decode()
    fetch = ["fetch", "--store", str(fetching.store.root), "--hub-from-stdin", "--spec", spec]
    monkeypatch.setattr("sys.stdin", io.StringIO("hf_secret, not JSON"))
    assert main(fetch) == 1
    assert "hf_secret" not in capsys.readouterr().out
    monkeypatch.setattr("sys.stdin", io.StringIO(orjson.dumps(given).decode()))
    assert main(fetch) == 0
    said = orjson.loads(capsys.readouterr().out.splitlines()[-1])
    assert (said["event"], said["revision"], os.environ["PATH"]) == ("result", COMMIT, path)
