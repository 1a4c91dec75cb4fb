"""INT8 against FP32 on the real model: speed as ratios of one interleaved run, and how near the vectors are.

    python test/bench/int8.py MODEL_DIRECTORY [--threads 2] [--rounds 9]

MODEL_DIRECTORY is a stored FP32 model. Compared are its INT8 copy as `dtype: int8` makes it, and the usual
dynamic quantisation (one scale for all activations of a batch), which the gate is there to refuse. Needs
`compose/services/src` on PYTHONPATH and the packages of its runtime lock.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from gpuctl_serving.engines.onnx_cpu import OnnxCpuEngine
from gpuctl_serving.engines.protocol import TokenBatch, Tokens
from gpuctl_serving.models.graph import save_model
from gpuctl_serving.models.int8 import quantized
from gpuctl_serving.models.manifest import read_manifest
from gpuctl_serving.models.parity import describe, measure
from gpuctl_serving.models.probe_set import probe_set
from gpuctl_serving.models.quantize import channel_ranges
from gpuctl_serving.models.tokenizer import ModelTokenizer

#: Texts in a batch, and tokens of each.
SHAPES = ((1, 13), (32, 13), (1, 128), (8, 128), (8, 256))
#: Tokens that one timed turn is made of, so that short shapes are not all clock.
TURN_TOKENS = 1024


def usual(file: Path) -> onnx.ModelProto:
    """The usual dynamic INT8: weights a column, activations one scale a tensor."""
    model = onnx.load(file)
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    nodes = []
    for node in model.graph.node:
        if node.op_type != "MatMul" or node.input[1] not in weights:
            nodes.append(node)
            continue
        matrix, name = numpy_helper.to_array(weights[node.input[1]]), node.input[1]
        scale = np.abs(matrix).max(axis=0) / 127
        for suffix, array in (
            (".q", np.rint(matrix / scale).astype(np.int8)),
            (".s", scale.astype(np.float32)),
        ):
            model.graph.initializer.append(numpy_helper.from_array(array, name + suffix))
        inputs = [node.input[0], name + ".q", name + ".s"]
        nodes.append(
            helper.make_node("DynamicQuantizeMatMul", inputs, list(node.output), domain="com.microsoft")
        )
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return model


def batch_of(texts: int, tokens: int) -> TokenBatch:
    """Texts of equal length with words of the middle of the vocabulary."""
    ids = np.random.default_rng(0).integers(1000, 20_000, (texts, tokens)).astype(np.int32)
    return TokenBatch.of([Tokens(row, None, False) for row in ids], 0)


def seconds(engine: OnnxCpuEngine, batch: TokenBatch, turns: int) -> float:
    """Time of some turns of one engine."""
    began = time.perf_counter()
    for _ in range(turns):
        engine.infer(batch)
    return time.perf_counter() - began


def speed(engines: dict[str, OnnxCpuEngine], rounds: int) -> None:
    """Prints, for each shape, how many times as fast as FP32 each engine is: median and spread over rounds."""
    for texts, tokens in SHAPES:
        batch, turns = batch_of(texts, tokens), max(1, TURN_TOKENS // (texts * tokens))
        ratios: dict[str, list[float]] = {name: [] for name in engines if name != "float32"}
        for engine in engines.values():
            seconds(engine, batch, 1)
        for _ in range(rounds):
            taken = {name: seconds(engine, batch, turns) for name, engine in engines.items()}
            for name, values in ratios.items():
                values.append(taken["float32"] / taken[name])
        said = [f"{n} x{statistics.median(v):.2f} ({min(v):.2f}-{max(v):.2f})" for n, v in ratios.items()]
        print(f"{texts:3} texts x {tokens:3} tokens: " + "; ".join(said), flush=True)


def loaded(model: onnx.ModelProto | Path, folder: Path, name: str, threads: int) -> OnnxCpuEngine:
    """An engine with a graph."""
    file = model if isinstance(model, Path) else folder / f"{name}.onnx"
    if not isinstance(model, Path):
        save_model(model, file)
    engine = OnnxCpuEngine(threads)
    engine.load(file)
    return engine


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser()
    parser.add_argument("directory", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    manifest = read_manifest(options.directory)
    tokenizer = ModelTokenizer(options.directory / "tokenizer.json", manifest.max_tokens)
    pad = tokenizer.pad_id(0)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        original = folder / "model.onnx"
        for name in manifest.files:
            (folder / name).symlink_to(options.directory / name)
        ranges = channel_ranges(original, tokenizer.texts(probe_set().calibration))
        engines = {
            "float32": loaded(original, folder, "float32", options.threads),
            "int8": loaded(quantized(original, ranges, None), folder, "int8", options.threads),
            "usual int8": loaded(usual(original), folder, "usual", options.threads),
        }
        for name in ("int8", "usual int8"):
            with_original: Any = engines["float32"], engines[name]
            parity = measure(
                manifest.kind, *with_original, tokenizer, pad, lambda *_: None, probes=probe_set()
            )
            print(f"{name}: {describe(parity)}: {'passes' if parity.passed else 'refused'}", flush=True)
        speed(engines, options.rounds)


if __name__ == "__main__":
    main()
