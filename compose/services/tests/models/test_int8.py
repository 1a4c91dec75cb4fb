"""INT8 copies take the place of their originals through the gate, or not at all."""

import asyncio
import io
import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from gpuctl_serving.engines.onnx_cpu import OnnxCpuEngine
from gpuctl_serving.models import quantize
from gpuctl_serving.models.__main__ import main
from gpuctl_serving.models.build import build
from gpuctl_serving.models.errors import ModelProblem
from gpuctl_serving.models.fetch import fetch
from gpuctl_serving.models.graph import beside_of, save_model
from gpuctl_serving.models.int8 import quantized
from gpuctl_serving.models.manifest import Parity, read_manifest
from gpuctl_serving.models.parity import kendall_tau, measure, refuse_unless_near
from gpuctl_serving.models.probe_set import ProbeSet, probe_set
from gpuctl_serving.models.progress import Progress
from gpuctl_serving.models.source_folder import SourceFolder
from gpuctl_serving.models.spec import PathSpec
from gpuctl_serving.models.store import ModelStore
from gpuctl_serving.models.tokenizer import ModelTokenizer

QUIET = Progress(io.StringIO())


def int8(source: Path, store: Path, pooling: str | None = None) -> Path:
    spec = PathSpec(path=source, pooling=pooling, dtype="int8")  # type: ignore[arg-type]  # a literal
    return asyncio.run(fetch(spec, ModelStore(store), QUIET)).directory


@pytest.fixture(scope="module")
def minilm_int8(minilm: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Path]]:
    """MiniLM's graph and its INT8 copy."""
    target = tmp_path_factory.mktemp("int8") / "model.onnx"
    rows = ModelTokenizer(minilm / "tokenizer.json", 256).texts(probe_set().calibration)
    model = quantized(minilm / "model.onnx", quantize.channel_ranges(linked(minilm, target), rows), None)
    save_model(model, target)
    yield minilm / "model.onnx", target


def linked(directory: Path, beside: Path) -> Path:
    """The graph in a folder that may be written to."""
    link = beside.parent / "original.onnx"
    link.symlink_to(directory / "model.onnx")
    return link


def compare(pair: tuple[Path, Path], minilm: Path, probes: ProbeSet) -> Parity:
    tokenizer = ModelTokenizer(minilm / "tokenizer.json", 256)
    with closing(OnnxCpuEngine(2)) as wide, closing(OnnxCpuEngine(2)) as narrow:
        wide.load(pair[0])
        narrow.load(pair[1])
        return measure("embedder", wide, narrow, tokenizer, 0, lambda *_: None, probes=probes)


def few() -> ProbeSet:
    """A third of the set: the whole of it is measured at every fetch, and in the long tests."""
    whole = probe_set()
    return ProbeSet(whole.calibration, whole.pairs[::3])


def test_the_int8_copy_of_the_real_model_passes_and_a_batch_changes_nothing(
    minilm_int8: tuple[Path, Path], minilm: Path
) -> None:
    parity = compare(minilm_int8, minilm, few())
    assert parity.passed
    assert parity.mean_cosine is not None and parity.mean_cosine >= 0.999
    assert parity.alone is not None and parity.alone >= 0.999999
    original, copy = (file.stat().st_size for file in minilm_int8)
    assert copy < 0.7 * original


def test_one_scale_for_a_whole_batch_is_refused_with_its_figures(minilm: Path, tmp_path: Path) -> None:
    per_tensor = tmp_path / "model.onnx"
    per_tensor.write_bytes(usual_dynamic_int8(minilm / "model.onnx").SerializeToString())
    parity = compare((minilm / "model.onnx", per_tensor), minilm, few())
    assert not parity.passed
    assert parity.alone is not None and parity.alone < 0.9999
    with pytest.raises(ModelProblem, match="does not pass as int8") as refused:
        refuse_unless_near(parity, "some model")
    assert f"{parity.mean_cosine:.5f}" in str(refused.value)
    assert "cosine 0.999" in str(refused.value)


def usual_dynamic_int8(file: Path) -> onnx.ModelProto:
    """What the usual dynamic quantisation does: weights a column, activations one scale a tensor."""
    model = onnx.load(file)
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    nodes = []
    for node in model.graph.node:
        if node.op_type != "MatMul" or node.input[1] not in weights:
            nodes.append(node)
            continue
        matrix = numpy_helper.to_array(weights[node.input[1]])
        scale = np.abs(matrix).max(axis=0) / 127
        name = node.input[1]
        model.graph.initializer.append(
            numpy_helper.from_array(np.rint(matrix / scale).astype(np.int8), f"{name}.q")
        )
        model.graph.initializer.append(numpy_helper.from_array(scale.astype(np.float32), f"{name}.s"))
        nodes.append(
            helper.make_node(
                "DynamicQuantizeMatMul",
                [node.input[0], f"{name}.q", f"{name}.s"],
                [node.output[0]],
                domain="com.microsoft",
            )
        )
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return model


def test_a_fetch_with_int8_is_a_model_of_its_own_in_the_same_space(golden: Path, tmp_path: Path) -> None:
    source = golden / "models/tiny-xlmr-embedder"
    plain = asyncio.run(fetch(PathSpec(path=source, pooling="mean"), ModelStore(tmp_path), QUIET))
    small = read_manifest(int8(source, tmp_path, "mean"))
    assert small.dtype == "int8"
    assert small.revision.startswith(plain.manifest.revision.partition("-")[0])
    assert small.revision != plain.manifest.revision
    assert small.generation == plain.manifest.generation
    assert small.parity is not None
    assert small.parity.passed
    assert small.probes.origin == "self-recorded"
    assert "parity" not in json.loads(plain.manifest.encode())
    assert sorted(p.name for p in (tmp_path / "local--tiny-xlmr-embedder").iterdir()) == sorted(
        [small.revision, plain.manifest.revision]
    )


@pytest.mark.parametrize("name", ["tiny-bert-cross-encoder", "tiny-xlmr-cross-encoder"])
def test_a_cross_encoder_is_judged_by_the_order_it_gives(golden: Path, tmp_path: Path, name: str) -> None:
    parity = read_manifest(int8(golden / "models" / name, tmp_path)).parity
    assert parity is not None
    assert parity.passed
    assert parity.tau is not None
    assert parity.spread is not None and parity.spread < 1e-4


def test_a_copy_that_is_not_near_is_refused_and_nothing_is_stored(
    golden: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("gpuctl_serving.models.parity.LEAST_MEAN_COSINE", 1.1)
    monkeypatch.setattr("gpuctl_serving.models.parity.LEAST_OVERLAP", 1.1)
    source = str(golden / "models/tiny-xlmr-embedder")
    spec = json.dumps({"source": "path", "path": source, "pooling": "cls", "dtype": "int8"})
    assert main(["fetch", "--spec", spec, "--store", str(tmp_path / "store")]) == 1
    said = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert "mean cosine" in said["because"]
    assert "dtype" in said["next"]
    assert list((tmp_path / "store").iterdir()) == []


def test_a_large_model_is_quantised_with_its_weights_beside_the_graph(
    golden: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = golden / "models/tiny-xlmr-embedder"
    inside = read_manifest(int8(source, tmp_path / "inside", "cls"))
    for module in ("build", "quantize"):
        monkeypatch.setattr(f"gpuctl_serving.models.{module}.EXTERNAL_ABOVE", 1000)
    beside = read_manifest(int8(source, tmp_path / "beside", "cls"))
    assert "model.onnx.data" in beside.files
    assert beside.parity == inside.parity
    assert beside.probes == inside.probes


def test_a_graph_of_the_authors_own_is_not_quantised(golden: Path, tmp_path: Path) -> None:
    for name in ("config.json", "tokenizer.json", "model.onnx"):
        (tmp_path / name).write_bytes((golden / "models/tiny-xlmr-embedder" / name).read_bytes())
    with pytest.raises(ModelProblem, match="graph of its own"):
        int8(tmp_path, tmp_path / "store", "cls")


def test_every_dense_layer_is_quantised_and_nothing_else(golden: Path, tmp_path: Path) -> None:
    source = golden / "models/tiny-bert-cross-encoder"
    built = build(PathSpec(path=source), SourceFolder(source), tmp_path, QUIET)
    rows = ModelTokenizer(source / "tokenizer.json", 64).pairs("a", ["b", "c d e"])
    ranges = quantize.channel_ranges(tmp_path / "model.onnx", rows)
    nodes = [node.op_type for node in quantized(tmp_path / "model.onnx", ranges, None).graph.node]
    layers = json.loads((source / "config.json").read_text())["num_hidden_layers"]
    assert built.ours
    assert nodes.count("MatMulIntegerToFloat") == 4 * layers
    assert nodes.count("MultiHeadAttention") == layers
    assert nodes.count("MatMul") == 2
    assert not beside_of(tmp_path / "watched.onnx").exists()
    assert not (tmp_path / "watched.onnx").exists()


def test_kendall_tau_is_1_for_the_same_order_and_minus_1_for_the_opposite() -> None:
    order = np.arange(5, dtype=np.float32) - 2
    assert kendall_tau(order, order * 3 - 7) == 1
    assert kendall_tau(order, -order) == -1
    assert kendall_tau(order, np.array([1, 0, 2, 3, 4], np.float32)) == pytest.approx(0.8)


def test_documents_with_nearly_the_same_score_have_no_order_to_keep() -> None:
    irrelevant = np.array([-11.2, -11.3, -11.1, 4], np.float32)
    assert kendall_tau(irrelevant, np.array([-11.3, -11.1, -11.2, 3.9], np.float32)) == 1
    assert kendall_tau(irrelevant[:3], irrelevant[:3]) is None


def test_the_probe_set_is_a_few_hundred_texts_that_do_not_calibrate() -> None:
    probes = probe_set()
    assert 200 <= len(probes.texts) <= 400
    assert not set(probes.calibration) & set(probes.texts)
    assert all(len(set(documents)) == len(documents) for _, documents in probes.scored())
    assert all(query_of(probes, query) in documents for query, documents in probes.scored())


def query_of(probes: ProbeSet, query: str) -> str:
    return dict(probes.pairs)[query]
