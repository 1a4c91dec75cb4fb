"""The PyTorch engines compute what the references and the CPU engine compute, on this machine's CPU."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gpu_check.raw import random_batch
from gpu_check.shapes import Shape, build

from gpuctl_serving.engines.onnx_cpu import OnnxCpuEngine
from gpuctl_serving.engines.protocol import Engine, EngineError, EngineSpec, Rows, TokenBatch, Tokens
from gpuctl_serving.engines.select import make_engine
from gpuctl_serving.engines.torch_attention import PADDED, Attention, choose_attention
from gpuctl_serving.engines.torch_cpu import TorchCpuEngine
from gpuctl_serving.models.probing import unit
from gpuctl_serving.models.store import ModelStore
from gpuctl_serving.models.tokenizer import ModelTokenizer

Keep = Callable[[str, Any], None]
CROSS_ENCODERS = ["tiny-bert-cross-encoder", "tiny-xlmr-cross-encoder"]


class HalfOnCpu(TorchCpuEngine):
    """What a GPU's float16 does to the numbers, slowly; no setting makes a service do this."""

    def dtype(self) -> Any:
        return torch.float16


def single() -> Engine:
    return make_engine(EngineSpec("torch-cpu", "cpu", "float32", 2))


def half() -> Engine:
    return HalfOnCpu(EngineSpec("torch-cpu", "cpu", "float16", 2))


def answers(engine: Engine, model: Path, rows: list[Tokens]) -> Rows:
    engine.load(model)
    return engine.infer(TokenBatch.of(rows, 0))


def minilm_case(minilm: Path, golden: Path) -> tuple[list[Tokens], Rows]:
    items = json.loads((golden / "minilm-reference.json").read_text())["items"]
    rows = ModelTokenizer(minilm / "tokenizer.json", 256).texts([item["text"] for item in items])
    return rows, unit(np.array([item["embedding"] for item in items], np.float32))


def test_minilm_in_float32_matches_its_24_reference_texts(minilm: Path, golden: Path, figures: Keep) -> None:
    rows, wanted = minilm_case(minilm, golden)
    cosine = (unit(answers(single(), minilm / "model.onnx", rows)) * wanted).sum(axis=1)
    figures("torch-float32-minilm", {"texts": len(rows), "cosine min": float(cosine.min())})
    assert cosine.min() >= 0.99999


def test_minilm_in_float16_stays_within_its_canary_s_tolerance(
    minilm: Path, golden: Path, figures: Keep
) -> None:
    rows, wanted = minilm_case(minilm, golden)
    cosine = (unit(answers(half(), minilm / "model.onnx", rows)) * wanted).sum(axis=1)
    figures(
        "torch-float16-on-cpu-minilm",
        {"texts": len(rows), "cosine min": float(cosine.min()), "mean": float(cosine.mean())},
    )
    assert cosine.min() >= 0.9999


@pytest.mark.parametrize("name", CROSS_ENCODERS)
@pytest.mark.parametrize(("engine", "most"), [(single, 1e-4), (half, 5e-3)])
def test_cross_encoders_match_their_logits(
    tiny: dict[str, Path], golden: Path, figures: Keep, name: str, engine: Callable[[], Engine], most: float
) -> None:
    reference = json.loads((golden / "models" / name / "reference.json").read_text())
    tokenizer = ModelTokenizer(tiny[name] / "tokenizer.json", reference["max_tokens"])
    worst = 0.0
    for case in reference["cases"]:
        rows = tokenizer.pairs(case["query"], case["documents"])
        logits = answers(engine(), tiny[name] / "model.onnx", rows)
        worst = max(worst, float(np.abs(logits - np.array(case["logits"])).max()))
    figures(f"torch-{engine.__name__}-{name}", {"logit error max": worst})
    assert worst < most


def test_an_xlmr_embedder_matches_its_vectors(tiny: dict[str, Path], golden: Path) -> None:
    reference = json.loads((golden / "models/tiny-xlmr-embedder/reference.json").read_text())
    directory = tiny["tiny-xlmr-embedder"]
    rows = ModelTokenizer(directory / "tokenizer.json", 512).texts([i["text"] for i in reference["items"]])
    vectors = unit(answers(single(), directory / "model.onnx", rows))
    wanted = np.array([item["embedding"] for item in reference["items"]])
    assert np.abs(vectors - wanted).max() < 1e-4


def test_batches_of_every_mixture_of_lengths_equal_onnx_runtime(minilm: Path) -> None:
    torch_engine, onnx_engine = single(), OnnxCpuEngine(2)
    torch_engine.load(minilm / "model.onnx")
    onnx_engine.load(minilm / "model.onnx")
    chance = np.random.default_rng(5)
    for count in (1, 2, 7, 33):
        lengths = chance.integers(1, 257, count)
        rows = [Tokens(chance.integers(0, 30522, n).astype(np.int32), None, truncated=False) for n in lengths]
        batch = TokenBatch.of(rows, 0)
        assert np.abs(torch_engine.infer(batch) - onnx_engine.infer(batch)).max() < 2e-5


def test_tokens_outside_the_vocabulary_never_reach_the_device(minilm: Path) -> None:
    engine = single()
    engine.load(minilm / "model.onnx")
    for ids in ([101, 30522], [101, -1], [7] * 513):
        row = Tokens(np.array(ids, np.int32), None, truncated=False)
        with pytest.raises(EngineError):
            engine.infer(TokenBatch.of([row], 0))


def test_an_attention_that_is_wrong_or_missing_here_is_not_chosen() -> None:
    def forgets_bounds(qkv: Any, layout: Any) -> Any:
        query, key, value = qkv.permute(1, 2, 0, 3).unsqueeze(1)
        return torch.nn.functional.scaled_dot_product_attention(query, key, value)[0].transpose(0, 1)

    def missing(qkv: Any, layout: Any) -> Any:
        raise NotImplementedError("not on this card")

    candidates = (Attention("missing", missing, False), Attention("wrong", forgets_bounds, False), PADDED)
    cpu = torch.device("cpu")
    chosen = choose_attention(cpu, torch.float32, heads=4, width=32, candidates=candidates)
    assert chosen is PADDED
    with pytest.raises(Exception, match=r"missing: not on this card; wrong: differs by"):
        choose_attention(cpu, torch.float32, heads=4, width=32, candidates=candidates[:2])


def test_a_closed_engine_says_that_it_is_closed(minilm: Path) -> None:
    engine = single()
    engine.load(minilm / "model.onnx")
    assert engine.probe() == ("cpu", "attention=sdpa")
    engine.close()
    with pytest.raises(EngineError, match="closed"):
        engine.probe()


def test_cuda_that_pytorch_cannot_use_is_refused_with_its_reason(minilm: Path) -> None:
    if torch.cuda.is_available():
        engine = make_engine(EngineSpec("torch-cuda", "cuda", "float16", 2))
        assert engine.load(minilm / "model.onnx").providers[0].startswith("cuda:")
        return
    with pytest.raises(EngineError, match="finds no usable CUDA device: "):
        make_engine(EngineSpec("torch-cuda", "cuda", "float16", 2)).load(minilm / "model.onnx")


@pytest.mark.parametrize("scores", [False, True])
def test_twenty_four_layers_in_float16_stay_within_the_canary_s_tolerance(
    tmp_path: Path, golden: Path, figures: Keep, scores: bool
) -> None:
    deep = Shape("deep", 256, 24, 16, 8192, 512, scores)
    model = build(deep, ModelStore(tmp_path / "store"), tmp_path, golden) / "model.onnx"
    full, rounded = single(), half()
    full.load(model)
    rounded.load(model)
    batch = random_batch(6, 64)
    wanted, got = full.infer(batch), rounded.infer(batch)
    if scores:
        error = float(np.abs(wanted - got).max())
        figures("torch-float16-24-layers-logits", {"pairs": len(got), "logit error max": error})
        assert error < 3e-2
        return
    cosine = float((unit(wanted) * unit(got)).sum(axis=1).min())
    figures("torch-float16-24-layers-vectors", {"texts": len(got), "cosine min": cosine})
    assert cosine >= 0.9999
