"""Models of the shape of bge-m3 and bge-reranker-v2-m3 with random weights: as large, and meaningless."""

import json
import struct
from pathlib import Path

import numpy as np

HIDDEN, LAYERS, INNER, VOCABULARY, POSITIONS = 1024, 24, 4096, 250_002, 8194
_DEVIATION = 0.02


def write_shape(folder: Path, tokenizer: Path, *, cross_encoder: bool) -> None:
    """config.json, a small tokenizer.json, and weights as two half-precision shards with their index."""
    folder.mkdir(parents=True)
    config = {
        "model_type": "xlm-roberta",
        "hidden_size": HIDDEN,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": 16,
        "intermediate_size": INNER,
        "vocab_size": VOCABULARY,
        "max_position_embeddings": POSITIONS,
        "type_vocab_size": 1,
        "pad_token_id": 1,
        "layer_norm_eps": 1e-5,
    }
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer.json").write_bytes(tokenizer.read_bytes())
    shapes = _shapes(cross_encoder)
    names, half = sorted(shapes), len(shapes) // 2
    weight_map: dict[str, str] = {}
    for number, mine in enumerate((names[:half], names[half:]), start=1):
        shard = f"model-{number:05}-of-00002.safetensors"
        _write_shard(folder / shard, {name: shapes[name] for name in mine}, number)
        weight_map |= dict.fromkeys(mine, shard)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))


def _shapes(cross_encoder: bool) -> dict[str, tuple[int, ...]]:
    base = "roberta." if cross_encoder else ""
    shapes: dict[str, tuple[int, ...]] = {
        f"{base}embeddings.word_embeddings.weight": (VOCABULARY, HIDDEN),
        f"{base}embeddings.position_embeddings.weight": (POSITIONS, HIDDEN),
        f"{base}embeddings.token_type_embeddings.weight": (1, HIDDEN),
        **_norm(f"{base}embeddings.LayerNorm"),
    }
    for layer in range(LAYERS):
        at = f"{base}encoder.layer.{layer}."
        for part in ("query", "key", "value"):
            shapes |= _dense(f"{at}attention.self.{part}", HIDDEN, HIDDEN)
        shapes |= _dense(f"{at}attention.output.dense", HIDDEN, HIDDEN)
        shapes |= _norm(f"{at}attention.output.LayerNorm")
        shapes |= _dense(f"{at}intermediate.dense", INNER, HIDDEN)
        shapes |= _dense(f"{at}output.dense", HIDDEN, INNER)
        shapes |= _norm(f"{at}output.LayerNorm")
    if cross_encoder:
        shapes |= _dense("classifier.dense", HIDDEN, HIDDEN) | _dense("classifier.out_proj", 1, HIDDEN)
    return shapes


def _dense(name: str, wide: int, deep: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (wide, deep), f"{name}.bias": (wide,)}


def _norm(name: str) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (HIDDEN,), f"{name}.bias": (HIDDEN,)}


def _write_shard(file: Path, shapes: dict[str, tuple[int, ...]], seed: int) -> None:
    header, at = {}, 0
    for name, shape in shapes.items():
        size = 2 * int(np.prod(shape))
        header[name] = {"dtype": "F16", "shape": shape, "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    noise = np.random.default_rng(seed).normal(0, _DEVIATION, 1_000_003).astype(np.float16)
    with file.open("wb") as sink:
        sink.write(struct.pack("<Q", len(text)) + text)
        for name, shape in shapes.items():
            count = int(np.prod(shape))
            if "LayerNorm" in name:
                np.full(count, 1.0 if name.endswith("weight") else 0.0, np.float16).tofile(sink)
            else:
                # One block of noise over and over, rotated: half a billion draws would take minutes.
                np.resize(np.roll(noise, len(name) * 7919), count).tofile(sink)
