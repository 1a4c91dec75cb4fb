"""Reading back the weights of a graph that this package wrote, for engines that compute by themselves.

The graph is followed node by node, so that what is read is what the CPU engine would run, and a graph with
anything else in it is refused instead of being computed wrongly.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from gpuctl_serving.engines.protocol import EngineBroken
from gpuctl_serving.models.heads import LOGITS, VECTORS

Array = NDArray[Any]

_LAYER = (
    "Attention",
    "MatMul",
    "SkipLayerNormalization",
    "MatMul",
    "BiasGelu",
    "MatMul",
    "SkipLayerNormalization",
)
_MEAN = ("Cast", "Unsqueeze", "MatMul", "Squeeze", "ReduceSum", "Max", "Div", "Identity")
_CLS = ("Gather", "Identity")
_CLASSIFIER = ("Gather", "MatMul", "Add", "Tanh", "MatMul", "Add", "Identity")


@dataclass(frozen=True)
class Norm:
    """Layer normalisation."""

    gamma: Array
    beta: Array
    epsilon: float


@dataclass(frozen=True)
class Dense:
    """x W + b; `weight` is (in, out)."""

    weight: Array
    bias: Array


@dataclass(frozen=True)
class Layer:
    """One encoder layer. `attention` gives query, key and value side by side."""

    attention: Dense
    heads: int
    project: Dense
    project_norm: Norm
    up: Dense
    down: Dense
    down_norm: Norm


@dataclass(frozen=True)
class Classifier:
    """A cross-encoder's head on the first token: dense, tanh, one logit."""

    inner: Dense
    out: Dense


@dataclass(frozen=True)
class EncoderWeights:
    """An encoder with its head. Arrays may be maps of a file: copy what must outlive it."""

    word: Array
    #: Row 0 is of a text's first token; holds the one segment's row where there is no `segment`.
    position: Array
    segment: Array | None
    norm: Norm
    layers: tuple[Layer, ...]
    head: Classifier | Literal["mean", "cls"]

    @property
    def hidden(self) -> int:
        """Width of a token's state."""
        return int(self.word.shape[1])


def read_encoder(model: Path) -> EncoderWeights:
    """Reads `model` (a model.onnx). Raises EngineBroken when it is not a graph of ours."""
    try:
        proto = onnx.load(model, load_external_data=False)
    except Exception as failure:  # protobuf's errors have no common base that onnx promises.
        raise EngineBroken(f"{model.name} cannot be read: {failure}") from failure
    if proto.producer_name != "gpuctl":
        raise _foreign(model, f"it was written by {proto.producer_name or 'an unknown program'}")
    try:
        return _Reader(proto.graph, model).read()
    except (KeyError, IndexError, ValueError, OSError) as failure:
        raise _foreign(model, str(failure)) from failure


def _foreign(model: Path, why: str) -> EngineBroken:
    return EngineBroken(
        f"PyTorch engines take graphs gpuctl built from safetensors; {model.name} is not one ({why}). "
        "Fetch the model from a source that has model.safetensors, or set GPUCTL_ENGINE to "
        "onnxruntime-cuda or onnxruntime-cpu"
    )


class _Reader:
    """Walks the nodes in the order the writer wrote them."""

    def __init__(self, graph: Any, model: Path) -> None:
        self._nodes = list(graph.node)
        self._weights = {weight.name: weight for weight in graph.initializer}
        self._outputs = [output.name for output in graph.output]
        self._model = model

    def read(self) -> EncoderWeights:
        embed, *rest = self._nodes
        self._expect([embed], ("EmbedLayerNormalization",))
        count = sum(node.op_type == "Attention" for node in rest)
        depth = len(_LAYER)
        layers = [self._layer(rest[n * depth : (n + 1) * depth]) for n in range(count)]
        _, types, word, position, segment, gamma, beta, _ = embed.input
        if bool(types) != bool(segment):
            raise ValueError("token types without their table")
        return EncoderWeights(
            word=self._weight(word),
            position=self._weight(position),
            segment=self._weight(segment) if segment else None,
            norm=Norm(self._weight(gamma), self._weight(beta), _number(embed, "epsilon")),
            layers=tuple(layers),
            head=self._head(rest[count * depth :]),
        )

    def _layer(self, nodes: Sequence[Any]) -> Layer:
        self._expect(nodes, _LAYER)
        attention, project, norm, up, gelu, down, last = nodes
        return Layer(
            attention=Dense(self._weight(attention.input[1]), self._weight(attention.input[2])),
            heads=int(_number(attention, "num_heads")),
            project=Dense(self._weight(project.input[1]), self._weight(norm.input[4])),
            project_norm=self._norm(norm),
            up=Dense(self._weight(up.input[1]), self._weight(gelu.input[1])),
            down=Dense(self._weight(down.input[1]), self._weight(last.input[4])),
            down_norm=self._norm(last),
        )

    def _head(self, nodes: Sequence[Any]) -> Classifier | Literal["mean", "cls"]:
        operators = tuple(node.op_type for node in nodes)
        if self._outputs == [VECTORS] and operators == _MEAN:
            return "mean"
        if self._outputs == [VECTORS] and operators == _CLS:
            return "cls"
        if self._outputs == [LOGITS] and operators == _CLASSIFIER:
            _, inner, inner_bias, _, out, out_bias, _ = nodes
            return Classifier(
                Dense(self._weight(inner.input[1]), self._weight(inner_bias.input[1])),
                Dense(self._weight(out.input[1]), self._weight(out_bias.input[1])),
            )
        raise ValueError(f"its head is {', '.join(operators)}")

    def _norm(self, node: Any) -> Norm:
        return Norm(self._weight(node.input[2]), self._weight(node.input[3]), _number(node, "epsilon"))

    def _expect(self, nodes: Sequence[Any], operators: tuple[str, ...]) -> None:
        found = tuple(node.op_type for node in nodes)
        if found != operators:
            raise ValueError(f"it has {', '.join(found) or 'nothing'} where {', '.join(operators)} should be")

    def _weight(self, name: str) -> Array:
        tensor = self._weights[name]
        if tensor.data_location != onnx.TensorProto.EXTERNAL:
            array: Array = numpy_helper.to_array(tensor)
            return array
        place = {entry.key: entry.value for entry in tensor.external_data}
        file = self._model.parent / Path(place["location"]).name
        dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
        return np.memmap(file, dtype, "r", int(place["offset"]), tuple(tensor.dims))


def _number(node: Any, name: str) -> float:
    for attribute in node.attribute:
        if attribute.name == name:
            return float(onnx.helper.get_attribute_value(attribute))
    raise ValueError(f"{node.op_type} has no {name}")
