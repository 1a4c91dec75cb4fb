"""A BERT or XLM-RoBERTa encoder as an ONNX graph, straight from its weights, with fused operators.

Weights of dense layers are transposed to (in, out); query, key and value are joined on the second axis.
Padding is on the right: the mask becomes one length per row, which is what the fused attention takes.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gpuctl_serving.models.architecture import Architecture
from gpuctl_serving.models.errors import ModelProblem
from gpuctl_serving.models.graph import MICROSOFT, Graph

Tensors = Mapping[str, NDArray[np.float32]]

_PREFIXES = ("", "bert.", "roberta.", "model.", "0.auto_model.")


@dataclass(frozen=True)
class Encoded:
    """Tensor names the heads start from."""

    hidden: str
    mask: str


class EncoderWriter:
    """Writes one encoder into a graph."""

    def __init__(self, graph: Graph, weights: Tensors, architecture: Architecture) -> None:
        self._graph = graph
        self._weights = weights
        self._arch = architecture
        self._prefix = _find_prefix(weights)

    def write(self, *, token_types: bool) -> Encoded:
        """Inputs, embeddings and all layers. With `token_types` the graph has a third input."""
        ids, mask = self._graph.input("input_ids"), self._graph.input("attention_mask")
        types = self._graph.input("token_type_ids") if token_types else ""
        hidden, lengths = self._embeddings(ids, mask, types)
        for layer in range(self._arch.layers):
            hidden = self._layer(f"encoder.layer.{layer}.", hidden, lengths)
        return Encoded(hidden, mask)

    def dense(self, name: str, tensor: str) -> str:
        """x W + b of a layer outside the encoder's prefix (a head)."""
        weight = self._graph.weight(name + ".weight", self._take(name + ".weight", "").T)
        bias = self._graph.weight(name + ".bias", self._take(name + ".bias", ""))
        return self._graph.add("Add", [self._graph.add("MatMul", [tensor, weight]), bias])

    @property
    def prefix(self) -> str:
        """What the encoder's tensor names start with in this file."""
        return self._prefix

    def _embeddings(self, ids: str, mask: str, types: str) -> tuple[str, str]:
        g, base = self._graph, "embeddings."
        position = self._take(base + "position_embeddings.weight")[self._arch.position_offset :]
        segment = ""
        if types:
            table = self._take(base + "token_type_embeddings.weight")
            segment = g.weight("segment", table)
        elif self._arch.token_types:
            # Every token is of type 0: its row can be added to all positions once, here.
            position = position + self._take(base + "token_type_embeddings.weight")[0]
        gamma, beta = self._norm(base + "LayerNorm")
        word = g.weight("word", self._take(base + "word_embeddings.weight"))
        inputs = [ids, types, word, g.weight("position", position), segment, gamma, beta, mask]
        hidden, lengths = g.add_many(
            "EmbedLayerNormalization", inputs, 2, domain=MICROSOFT, epsilon=self._arch.epsilon
        )
        return hidden, lengths

    def _layer(self, base: str, hidden: str, lengths: str) -> str:
        g = self._graph
        weight, bias = self._query_key_value(base + "attention.self.")
        context = g.add(
            "Attention", [hidden, weight, bias, lengths], domain=MICROSOFT, num_heads=self._arch.heads
        )
        hidden = self._project_and_norm(base + "attention.output", context, hidden)
        up = g.weight(base + "up", self._take(base + "intermediate.dense.weight").T)
        up_bias = g.weight(base + "up.bias", self._take(base + "intermediate.dense.bias"))
        inner = g.add("BiasGelu", [g.add("MatMul", [hidden, up]), up_bias], domain=MICROSOFT)
        return self._project_and_norm(base + "output", inner, hidden)

    def _query_key_value(self, base: str) -> tuple[str, str]:
        parts = ("query", "key", "value")
        weight = np.concatenate([self._take(f"{base}{part}.weight").T for part in parts], axis=1)
        bias = np.concatenate([self._take(f"{base}{part}.bias") for part in parts])
        return self._graph.weight(base + "qkv", weight), self._graph.weight(base + "qkv.bias", bias)

    def _project_and_norm(self, base: str, tensor: str, skip: str) -> str:
        g = self._graph
        weight = g.weight(base + ".dense", self._take(base + ".dense.weight").T)
        bias = g.weight(base + ".dense.bias", self._take(base + ".dense.bias"))
        gamma, beta = self._norm(base + ".LayerNorm")
        inputs = [g.add("MatMul", [tensor, weight]), skip, gamma, beta, bias]
        return g.add("SkipLayerNormalization", inputs, domain=MICROSOFT, epsilon=self._arch.epsilon)

    def _norm(self, base: str) -> tuple[str, str]:
        # Checkpoints converted from TensorFlow call them gamma and beta.
        modern = self._prefix + base + ".weight" in self._weights
        gamma, beta = (".weight", ".bias") if modern else (".gamma", ".beta")
        return (
            self._graph.weight(base + ".gamma", self._take(base + gamma)),
            self._graph.weight(base + ".beta", self._take(base + beta)),
        )

    def _take(self, name: str, prefix: str | None = None) -> NDArray[np.float32]:
        full = (self._prefix if prefix is None else prefix) + name
        try:
            return self._weights[full]
        except KeyError:
            raise ModelProblem("the weights do not fit config.json", f"tensor {full} is missing") from None


def _find_prefix(weights: Tensors) -> str:
    for prefix in _PREFIXES:
        if prefix + "embeddings.word_embeddings.weight" in weights:
            return prefix
    raise ModelProblem("the weights are not a BERT or XLM-RoBERTa encoder's", "no word embeddings were found")
