"""A cross-encoder of random weights in MiniLM's shape: 6 layers, 384 wide, 12 heads. For time, never for ranking."""

import asyncio
import json
import shutil
import struct
import sys
from pathlib import Path

import numpy as np

from gpuctl_serving.models.fetch import fetch
from gpuctl_serving.models.progress import Progress
from gpuctl_serving.models.spec import PathSpec
from gpuctl_serving.models.store import ModelStore

WIDTH, LAYERS, HEADS, INNER, VOCABULARY, POSITIONS = 384, 6, 12, 1536, 30522, 512


def make_cross_encoder(like: Path, scratch: Path) -> Path:
    """Fetches it into a store of its own; returns its directory. `like` gives the tokenizer."""
    source = scratch / "random-cross-encoder"
    source.mkdir(parents=True, exist_ok=True)
    shutil.copy(like / "tokenizer.json", source / "tokenizer.json")
    (source / "config.json").write_text(json.dumps(_config()))
    _write_safetensors(source / "model.safetensors", _weights())
    store = ModelStore(scratch / "store")
    return asyncio.run(fetch(PathSpec(path=source), store, Progress(sys.stderr))).directory


def _config() -> dict[str, object]:
    return {
        "model_type": "bert",
        "architectures": ["BertForSequenceClassification"],
        "hidden_size": WIDTH,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "intermediate_size": INNER,
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-12,
        "vocab_size": VOCABULARY,
        "max_position_embeddings": POSITIONS,
        "type_vocab_size": 2,
        "pad_token_id": 0,
        "id2label": {"0": "LABEL_0"},
        "label2id": {"LABEL_0": 0},
    }


def _weights() -> dict[str, np.ndarray]:
    random = np.random.default_rng(1)

    def matrix(*shape: int) -> np.ndarray:
        return random.normal(0, 0.03, shape).astype(np.float32)

    found = {
        "bert.embeddings.word_embeddings.weight": matrix(VOCABULARY, WIDTH),
        "bert.embeddings.position_embeddings.weight": matrix(POSITIONS, WIDTH),
        "bert.embeddings.token_type_embeddings.weight": matrix(2, WIDTH),
        **_norm("bert.embeddings.LayerNorm"),
    }
    for layer in range(LAYERS):
        at = f"bert.encoder.layer.{layer}"
        linears = {
            "attention.self.query": (WIDTH, WIDTH),
            "attention.self.key": (WIDTH, WIDTH),
            "attention.self.value": (WIDTH, WIDTH),
            "attention.output.dense": (WIDTH, WIDTH),
            "intermediate.dense": (INNER, WIDTH),
            "output.dense": (WIDTH, INNER),
        }
        for name, shape in linears.items():
            found[f"{at}.{name}.weight"] = matrix(*shape)
            found[f"{at}.{name}.bias"] = np.zeros(shape[0], np.float32)
        found |= _norm(f"{at}.attention.output.LayerNorm") | _norm(f"{at}.output.LayerNorm")
    for name, shape in {"bert.pooler.dense": (WIDTH, WIDTH), "classifier": (1, WIDTH)}.items():
        found[f"{name}.weight"] = matrix(*shape)
        found[f"{name}.bias"] = np.zeros(shape[0], np.float32)
    return found


def _norm(name: str) -> dict[str, np.ndarray]:
    return {f"{name}.weight": np.ones(WIDTH, np.float32), f"{name}.bias": np.zeros(WIDTH, np.float32)}


def _write_safetensors(file: Path, tensors: dict[str, np.ndarray]) -> None:
    head: dict[str, object] = {}
    at = 0
    for name, tensor in tensors.items():
        head[name] = {"dtype": "F32", "shape": tensor.shape, "data_offsets": [at, at + tensor.nbytes]}
        at += tensor.nbytes
    text = json.dumps(head).encode()
    with file.open("wb") as out:
        out.write(struct.pack("<Q", len(text)) + text)
        for tensor in tensors.values():
            out.write(tensor.tobytes())
