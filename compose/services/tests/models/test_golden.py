"""Graphs built here give what independent implementations gave."""

import json
from pathlib import Path

import numpy as np
import pytest

from gpuctl_serving.engines.onnx_cpu import OnnxCpuEngine
from gpuctl_serving.engines.protocol import TokenBatch, Tokens
from gpuctl_serving.models import heads
from gpuctl_serving.models.adopt_onnx import adopt
from gpuctl_serving.models.architecture import Architecture
from gpuctl_serving.models.graph import beside_of, save_model
from gpuctl_serving.models.manifest import read_manifest
from gpuctl_serving.models.probing import unit
from gpuctl_serving.models.safetensors import Weights
from gpuctl_serving.models.tokenizer import ModelTokenizer


def answers(model: Path, rows: list[Tokens]) -> np.ndarray:
    engine = OnnxCpuEngine(1)
    engine.load(model)
    return engine.infer(TokenBatch.of(rows, 0))


def test_minilm_matches_its_24_reference_texts(minilm: Path, golden: Path) -> None:
    reference = json.loads((golden / "minilm-reference.json").read_text())
    items = reference["items"]
    assert len(items) == 24
    tokenizer = ModelTokenizer(minilm / "tokenizer.json", read_manifest(minilm).max_tokens)
    rows = tokenizer.texts([item["text"] for item in items])
    assert [len(row) for row in rows] == [item["tokens"] for item in items]
    vectors = unit(answers(minilm / "model.onnx", rows))
    wanted = np.array([item["embedding"] for item in items], np.float64)
    wanted /= np.linalg.norm(wanted, axis=1, keepdims=True)
    assert (vectors * wanted).sum(axis=1).min() >= 0.99999


def test_the_same_text_gets_the_same_vector_alone_and_in_a_batch(minilm: Path, golden: Path) -> None:
    texts = [i["text"] for i in json.loads((golden / "minilm-reference.json").read_text())["items"]]
    rows = ModelTokenizer(minilm / "tokenizer.json", 256).texts(texts)
    together = unit(answers(minilm / "model.onnx", rows))
    alone = unit(np.concatenate([answers(minilm / "model.onnx", [row]) for row in rows[:4]]))
    assert np.abs(together[:4] - alone).max() < 1e-5


@pytest.mark.parametrize("name", ["tiny-bert-cross-encoder", "tiny-xlmr-cross-encoder"])
def test_cross_encoders_match_their_logits(tiny: dict[str, Path], golden: Path, name: str) -> None:
    reference = json.loads((golden / "models" / name / "reference.json").read_text())
    tokenizer = ModelTokenizer(tiny[name] / "tokenizer.json", reference["max_tokens"])
    for case in reference["cases"]:
        rows = tokenizer.pairs(case["query"], case["documents"])
        assert [len(row) for row in rows] == case["tokens"]
        logits = answers(tiny[name] / "model.onnx", rows)
        assert np.abs(logits - np.array(case["logits"])).max() < 1e-4


def test_an_xlmr_embedder_matches_its_vectors(tiny: dict[str, Path], golden: Path) -> None:
    reference = json.loads((golden / "models/tiny-xlmr-embedder/reference.json").read_text())
    directory = tiny["tiny-xlmr-embedder"]
    rows = ModelTokenizer(directory / "tokenizer.json", 512).texts([i["text"] for i in reference["items"]])
    assert [len(row) for row in rows] == [item["tokens"] for item in reference["items"]]
    vectors = unit(answers(directory / "model.onnx", rows))
    wanted = np.array([item["embedding"] for item in reference["items"]])
    assert np.abs(vectors - wanted).max() < 1e-4


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_a_foreign_onnx_file_gives_the_same_as_our_graph(
    golden: Path, tmp_path: Path, pooling: heads.Pooling
) -> None:
    folder = golden / "models/tiny-xlmr-embedder"
    arch = Architecture.from_config(json.loads((folder / "config.json").read_text()))
    save_model(
        heads.build_embedder(Weights(folder / "model.safetensors"), arch, pooling), tmp_path / "ours.onnx"
    )
    adopted, logits = adopt(folder / "model.onnx", pooling)
    save_model(adopted, tmp_path / "theirs.onnx")
    rows = ModelTokenizer(folder / "tokenizer.json", 512).texts(["short", "a text of another length, longer"])
    assert not logits
    difference = answers(tmp_path / "ours.onnx", rows) - answers(tmp_path / "theirs.onnx", rows)
    assert np.abs(difference).max() < 1e-4


def test_a_large_model_keeps_its_weights_beside_the_graph(golden: Path, tmp_path: Path) -> None:
    folder = golden / "models/tiny-xlmr-embedder"
    arch = Architecture.from_config(json.loads((folder / "config.json").read_text()))
    model = heads.build_embedder(Weights(folder / "model.safetensors"), arch, "cls")
    row = ModelTokenizer(folder / "tokenizer.json", 512).texts(["a text"])
    save_model(model, tmp_path / "small.onnx")
    wanted = answers(tmp_path / "small.onnx", row)
    files = save_model(model, tmp_path / "model.onnx", external_above=1000)
    assert files == ["model.onnx", "model.onnx.data"]
    assert np.array_equal(answers(tmp_path / "model.onnx", row), wanted)
    streamed = tmp_path / "streamed.onnx"
    beside = beside_of(streamed)
    built = heads.build_embedder(Weights(folder / "model.safetensors"), arch, "cls", beside)
    assert save_model(built, streamed) == ["streamed.onnx", "streamed.onnx.data"]
    assert streamed.stat().st_size < 100_000 < beside.stat().st_size
    assert np.array_equal(answers(streamed, row), wanted)
