"""`dtype: int8`: calibrates, quantises, and lets the copy take its original's place if it passes the gate."""

import json
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper

from gpuctl_serving.engines.onnx_cpu import OnnxCpuEngine
from gpuctl_serving.engines.protocol import EngineBroken, Tokens
from gpuctl_serving.engines.threads import thread_count
from gpuctl_serving.models.build import Built
from gpuctl_serving.models.errors import ModelProblem
from gpuctl_serving.models.graph import EXTERNAL_ABOVE, beside_of, save_model
from gpuctl_serving.models.int8 import Channels, calibrated_tensors, quantized
from gpuctl_serving.models.manifest import Parity
from gpuctl_serving.models.parity import measure, refuse_unless_near
from gpuctl_serving.models.probe_set import ProbeSet, probe_set
from gpuctl_serving.models.progress import Progress
from gpuctl_serving.models.tokenizer import ModelTokenizer

#: Share of a channel's values that calibration leaves out at each end: one odd token widens nothing.
_OUTSIDE = 0.01


def quantize(
    model_id: str, built: Built, out: Path, max_tokens: int, progress: Progress
) -> tuple[Built, Parity]:
    """Replaces model.onnx in `out` by its INT8 copy. Raises ModelProblem with the figures when not near."""
    if not built.ours:
        raise ModelProblem(
            f"{model_id} cannot be made int8",
            "its source ships a graph of its own, whose structure is not known",
            "use a source with model.safetensors, or leave `dtype` out",
        )  # fmt: skip
    probes = probe_set()
    tokenizer = ModelTokenizer(out / "tokenizer.json", max_tokens)
    pad = tokenizer.pad_id(int(json.loads((out / "config.json").read_text()).get("pad_token_id") or 0))
    original = _set_aside(out, built)
    files = _write_copy(original, out, _calibration(tokenizer, probes, built), progress)
    with closing(OnnxCpuEngine(thread_count())) as wide, closing(OnnxCpuEngine(thread_count())) as narrow:
        _load(wide, original)
        _load(narrow, out / "model.onnx")

        def told(done: int, total: int) -> None:
            progress.amount("compare int8", done, total, "inferences")

        parity = measure(built.kind, wide, narrow, tokenizer, pad, told, probes=probes)
    refuse_unless_near(parity, model_id)
    for file in original.parent.iterdir():
        file.unlink()
    original.parent.rmdir()
    return replace(built, files=files), parity


def _set_aside(out: Path, built: Built) -> Path:
    """Moves the FP32 graph to a folder beside."""
    folder = out.with_name("original")
    folder.mkdir()
    for name in built.files:
        (out / name).rename(folder / name)
    return folder / "model.onnx"


def _calibration(tokenizer: ModelTokenizer, probes: ProbeSet, built: Built) -> list[Tokens]:
    texts = probes.calibration
    if built.kind == "embedder":
        return tokenizer.texts([*texts, " ".join(texts)])
    return [tokens for query in texts[::6] for tokens in tokenizer.pairs(query, texts[:12])]


def _write_copy(original: Path, out: Path, rows: Sequence[Tokens], progress: Progress) -> list[str]:
    progress.emit({"event": "progress", "label": "quantise", "done": 0, "total": 1, "unit": "graph"})
    ranges = channel_ranges(original, rows)
    target = out / "model.onnx"
    weights = sum(file.stat().st_size for file in original.parent.iterdir())
    beside = beside_of(target) if weights > EXTERNAL_ABOVE else None
    files = save_model(quantized(original, ranges, beside), target)
    progress.amount("quantise", 1, 1, "graph")
    return files


def channel_ranges(file: Path, rows: Sequence[Tokens]) -> dict[str, Channels]:
    """Runs the FP32 graph over `rows` and returns the range of each channel after each LayerNorm."""
    model = onnx.load(file, load_external_data=False)
    names = calibrated_tensors(model)
    for name in names:
        model.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
    # Beside the original, so that it finds its weights.
    watched = file.with_name("watched.onnx")
    watched.write_bytes(model.SerializeToString())
    try:
        session = _session(watched)
        seen: list[list[Any]] = [[] for _ in names]
        for row in rows:
            for values, found in zip(seen, session.run(names, _feeds(session, row)), strict=True):
                values.append(found[0])
    finally:
        watched.unlink()
    return {name: _range(np.concatenate(values)) for name, values in zip(names, seen, strict=True)}


def _range(values: Any) -> Channels:
    low, high = np.quantile(values, [_OUTSIDE, 1 - _OUTSIDE], axis=0)
    return Channels(low.astype(np.float32), high.astype(np.float32))


def _session(file: Path) -> Any:
    options = ort.SessionOptions()
    options.intra_op_num_threads = thread_count()
    options.log_severity_level = 3
    return ort.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])


def _feeds(session: Any, row: Tokens) -> dict[str, Any]:
    ids = row.ids[None]
    types = np.zeros_like(ids) if row.types is None else row.types[None]
    all_inputs = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": types}
    return {given.name: all_inputs[given.name] for given in session.get_inputs()}


def _load(engine: OnnxCpuEngine, file: Path) -> None:
    try:
        engine.load(file)
    except EngineBroken as broken:
        raise ModelProblem("the model does not load", str(broken)) from broken
