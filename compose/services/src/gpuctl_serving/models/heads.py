"""What comes after the encoder: pooling to one vector a text, or one logit a pair."""

from pathlib import Path
from typing import Literal

import numpy as np
import onnx

from gpuctl_serving.models.architecture import Architecture
from gpuctl_serving.models.encoder import Encoded, EncoderWriter, Tensors
from gpuctl_serving.models.errors import ModelProblem
from gpuctl_serving.models.graph import Graph

Pooling = Literal["mean", "cls"]

#: Names of the graphs' one output. Vectors are pooled, not normalised: a client may ask for either.
VECTORS, LOGITS = "sentence_embedding", "logits"


def build_embedder(
    weights: Tensors, arch: Architecture, pooling: Pooling, beside: Path | None = None
) -> onnx.ModelProto:
    """Token ids and mask in, one pooled vector a row out. `beside` takes the weights of a large model."""
    graph = Graph("embedder", beside)
    encoded = EncoderWriter(graph, weights, arch).write(token_types=False)
    pooled = pool(graph, encoded, pooling)
    graph.output(pooled, VECTORS, ["batch", arch.hidden])
    return graph.model()


def build_cross_encoder(weights: Tensors, arch: Architecture, beside: Path | None = None) -> onnx.ModelProto:
    """Token ids of a pair in, one logit a row out. `beside` takes the weights of a large model."""
    graph = Graph("cross-encoder", beside)
    writer = EncoderWriter(graph, weights, arch)
    encoded = writer.write(token_types=arch.family == "bert" and arch.token_types > 1)
    first = first_token(graph, encoded.hidden)
    if "classifier.out_proj.weight" in weights:
        # XLM-RoBERTa: a head of its own, no pooler.
        labels = weights["classifier.out_proj.weight"].shape[0]
        inner = graph.add("Tanh", [writer.dense("classifier.dense", first)])
        logits = writer.dense("classifier.out_proj", inner)
    elif "classifier.weight" in weights:
        labels = weights["classifier.weight"].shape[0]
        inner = graph.add("Tanh", [writer.dense(writer.prefix + "pooler.dense", first)])
        logits = writer.dense("classifier", inner)
    else:
        raise ModelProblem("the weights have no classification head", "neither classifier tensor was found")
    if labels != 1:
        raise ModelProblem(
            f"the model has {labels} labels", "a reranker gives one score a pair", "choose a cross-encoder"
        )
    graph.output(logits, LOGITS, ["batch", 1])
    return graph.model()


def is_cross_encoder(weights: Tensors) -> bool:
    """Whether the weights carry a classification head."""
    return "classifier.weight" in weights or "classifier.out_proj.weight" in weights


def pool(graph: Graph, encoded: Encoded, pooling: Pooling) -> str:
    """(batch, sequence, hidden) to (batch, hidden)."""
    if pooling == "cls":
        return first_token(graph, encoded.hidden)
    mask = graph.add("Cast", [encoded.mask], to=int(onnx.TensorProto.FLOAT))
    row = graph.add("Unsqueeze", [mask, graph.weight("axis_1", np.array([1], np.int64))])
    total = graph.add("MatMul", [row, encoded.hidden])
    total = graph.add("Squeeze", [total, graph.weight("axis_1", np.array([1], np.int64))])
    count = graph.add("ReduceSum", [mask, graph.weight("axis_1", np.array([1], np.int64))], keepdims=1)
    least = graph.weight("least", np.array(1e-9, np.float32))
    return graph.add("Div", [total, graph.add("Max", [count, least])])


def first_token(graph: Graph, hidden: str) -> str:
    """The state of the first token, (batch, hidden)."""
    return graph.add("Gather", [hidden, graph.weight("first", np.array(0, np.int64))], axis=1)
