"""Models as large as those of production go from a hub through the converters into the store."""

import asyncio
import io
import mmap
import os
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.support.hub import COMMIT, MODEL, FakeHub, serve_hub

from gpuctl_serving.models.fetch import fetch
from gpuctl_serving.models.manifest import Manifest, damage
from gpuctl_serving.models.progress import Progress
from gpuctl_serving.models.spec import HubSpec
from gpuctl_serving.models.store import ModelStore
from tests_long.models.shapes import write_shape

#: Protobuf's limit; the graph with its weights inside would not fit.
_TWO_GIB = 2**31


def hub_of(folder: Path) -> FakeHub:
    """A hub over mapped files: nothing of them is held twice."""
    files: dict[str, Any] = {}
    for file in folder.iterdir():
        with file.open("rb") as opened:
            mapped = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)
            files[file.name] = memoryview(mapped) if file.suffix == ".safetensors" else bytes(mapped)
    return FakeHub(files)


def fetched(hub: FakeHub, store: Path, monkeypatch: pytest.MonkeyPatch, **options: Any) -> Manifest:
    for name in [name for name in os.environ if name.startswith("HF_") or name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    with serve_hub(hub) as address:
        monkeypatch.setenv("HF_ENDPOINT", address)
        monkeypatch.setenv("HF_HOME", str(store / "hf"))
        spec = HubSpec(id=MODEL, revision=COMMIT, **options)
        stored = asyncio.run(fetch(spec, ModelStore(store), Progress(io.StringIO())))
    assert damage(stored.directory, stored.manifest) == []
    return stored.manifest


def test_a_model_of_the_shape_of_bge_m3_is_fetched_resumed_and_built(
    golden: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, figures: Callable[[str, Any], None]
) -> None:
    write_shape(tmp_path / "source", golden / "models/tiny-xlmr-embedder/tokenizer.json", cross_encoder=False)
    hub = hub_of(tmp_path / "source")
    hub.cuts = [300_000_000, 100_000_000]
    began = time.monotonic()
    manifest = fetched(hub, tmp_path / "store", monkeypatch, pooling="cls")
    keep(figures, "bge-m3 shape, float32", manifest, began)
    assert (manifest.kind, manifest.dimension, manifest.max_tokens) == ("embedder", 1024, 8192)
    assert manifest.files["model.onnx.data"].bytes > _TWO_GIB
    ranges = [request.headers.get("range") for request in hub.requests if "/storage/" in request.path]
    assert "bytes=300000000-" in ranges


def test_a_model_of_the_shape_of_bge_reranker_v2_m3_is_fetched_and_built(
    golden: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, figures: Callable[[str, Any], None]
) -> None:
    write_shape(
        tmp_path / "source", golden / "models/tiny-xlmr-cross-encoder/tokenizer.json", cross_encoder=True
    )
    began = time.monotonic()
    manifest = fetched(hub_of(tmp_path / "source"), tmp_path / "store", monkeypatch)
    keep(figures, "bge-reranker-v2-m3 shape, float32", manifest, began)
    assert (manifest.kind, manifest.max_tokens) == ("cross-encoder", 512)
    assert manifest.files["model.onnx.data"].bytes > _TWO_GIB


def keep(figures: Callable[[str, Any], None], name: str, manifest: Manifest, began: float) -> None:
    figures(
        "models-" + name.replace(" ", "-").replace(",", ""),
        {
            "what": name,
            "seconds": round(time.monotonic() - began, 1),
            "bytes": sum(entry.bytes for entry in manifest.files.values()),
            "peakRssMiB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        },
    )
