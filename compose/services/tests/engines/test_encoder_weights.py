"""What is read back from a graph is what was written into it; anything else is refused."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest

from gpuctl_serving.engines.encoder_weights import Classifier, read_encoder
from gpuctl_serving.engines.protocol import EngineBroken
from gpuctl_serving.models import heads
from gpuctl_serving.models.architecture import Architecture
from gpuctl_serving.models.graph import beside_of, save_model
from gpuctl_serving.models.safetensors import Weights


def test_an_embedder_is_read_back_tensor_by_tensor(golden: Path, tiny: dict[str, Path]) -> None:
    source = Weights(golden / "models/tiny-xlmr-embedder/model.safetensors")
    prefix = next(n for n in source if n.endswith("word_embeddings.weight")).removesuffix(
        "embeddings.word_embeddings.weight"
    )
    found = read_encoder(tiny["tiny-xlmr-embedder"] / "model.onnx")
    assert found.head == "cls"
    assert np.array_equal(found.word, source[prefix + "embeddings.word_embeddings.weight"])
    for number, layer in enumerate(found.layers):
        base = f"{prefix}encoder.layer.{number}."
        query, _, value = np.split(layer.attention.weight, 3, axis=1)
        assert np.array_equal(query.T, source[base + "attention.self.query.weight"])
        assert np.array_equal(value.T, source[base + "attention.self.value.weight"])
        assert np.array_equal(layer.project.bias, source[base + "attention.output.dense.bias"])
        assert np.array_equal(layer.up.weight.T, source[base + "intermediate.dense.weight"])
        assert np.array_equal(layer.down_norm.gamma, source[base + "output.LayerNorm.weight"])


def test_the_real_model_has_six_layers_of_twelve_heads_and_mean_pooling(minilm: Path) -> None:
    found = read_encoder(minilm / "model.onnx")
    assert (len(found.layers), found.layers[0].heads, found.hidden, found.head) == (6, 12, 384, "mean")
    assert found.norm.epsilon == pytest.approx(1e-12)
    assert found.segment is None


@pytest.mark.parametrize(
    ("name", "segments"), [("tiny-bert-cross-encoder", True), ("tiny-xlmr-cross-encoder", False)]
)
def test_cross_encoders_have_their_head_and_bert_its_token_types(
    tiny: dict[str, Path], name: str, segments: bool
) -> None:
    found = read_encoder(tiny[name] / "model.onnx")
    assert isinstance(found.head, Classifier)
    assert found.head.out.weight.shape == (found.hidden, 1)
    assert (found.segment is not None) == segments


def test_weights_beside_a_large_graph_are_mapped_not_read(golden: Path, tmp_path: Path) -> None:
    folder = golden / "models/tiny-xlmr-embedder"
    arch = Architecture.from_config(json.loads((folder / "config.json").read_text()))
    whole, split = tmp_path / "whole.onnx", tmp_path / "split.onnx"
    save_model(heads.build_embedder(Weights(folder / "model.safetensors"), arch, "mean"), whole)
    save_model(
        heads.build_embedder(Weights(folder / "model.safetensors"), arch, "mean", beside_of(split)), split
    )
    one, other = read_encoder(whole), read_encoder(split)
    assert isinstance(other.word, np.memmap)
    assert np.array_equal(one.word, other.word)
    assert np.array_equal(one.layers[-1].down.weight, other.layers[-1].down.weight)


def test_a_graph_of_somebody_else_is_refused_with_what_to_do(golden: Path) -> None:
    with pytest.raises(EngineBroken, match=r"written by pytorch.*has model\.safetensors"):
        read_encoder(golden / "models/tiny-xlmr-embedder/model.onnx")


def test_a_graph_of_ours_with_a_node_nobody_expects_is_refused(tiny: dict[str, Path], tmp_path: Path) -> None:
    model = onnx.load(tiny["tiny-xlmr-embedder"] / "model.onnx")
    model.graph.node[3].op_type = "FusedMatMul"
    onnx.save(model, tmp_path / "model.onnx")
    with pytest.raises(EngineBroken, match="is not one"):
        read_encoder(tmp_path / "model.onnx")


@pytest.mark.parametrize("content", [b"", b"\x00\xff not a graph", b"\x08\x07"])
def test_a_file_that_is_no_graph_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model.onnx").write_bytes(content)
    with pytest.raises(EngineBroken):
        read_encoder(tmp_path / "model.onnx")
