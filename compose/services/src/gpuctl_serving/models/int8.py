"""INT8 copy of a graph of ours: 8-bit weights, and a scale for every token, so that a batch changes nothing.

What quantisers usually do, one scale for all activations of a batch, makes a vector depend on its
neighbours. Three things keep the loss small:

* a dense layer after a LayerNorm sees its input channel by channel shifted to the middle of its range and
  divided by a share of it (its weights are multiplied by that): single channels of BERT are ten times wider;
* one after GELU uses the whole unsigned range from GELU's least value, -0.17, not half of a signed one;
* everything else (embeddings, attention itself, LayerNorm, pooling, heads) stays FP32.

Constants that a shift leaves are added to the bias that follows. Weights have one scale a column.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from gpuctl_serving.models.graph import MICROSOFT, Graph

Array = NDArray[np.float32]

#: Least value of GELU: x * Phi(x) at x = -0.7518.
_GELU_LEAST = 0.16997121
#: How much of a channel's range moves into the weights: 0 none, 1 all of it.
_SHARE = 0.7
_NORMS = ("SkipLayerNormalization", "EmbedLayerNormalization")


@dataclass(frozen=True)
class Channels:
    """Range of each channel of a tensor, as calibration saw it."""

    low: Array
    high: Array


def calibrated_tensors(model: onnx.ModelProto) -> list[str]:
    """Names of the tensors whose channels `quantized` has to know: every LayerNorm's output."""
    return [node.output[0] for node in model.graph.node if node.op_type in _NORMS]


def quantized(file: Path, ranges: Mapping[str, Channels], beside: Path | None) -> onnx.ModelProto:
    """The INT8 copy of `file`, a graph of ours. `beside` takes the weights of a large one."""
    return _Quantizer(file, ranges, beside).run()


class _Quantizer:
    """Writes the new graph node by node; knows the old one's weights without holding all of them."""

    def __init__(self, file: Path, ranges: Mapping[str, Channels], beside: Path | None) -> None:
        self._folder = file.parent
        self._old: Any = onnx.load(file, load_external_data=False).graph
        self._weights = {tensor.name: tensor for tensor in self._old.initializer}
        self._producer = {name: node for node in self._old.node for name in node.output}
        self._consumer = {name: node for node in self._old.node for name in node.input}
        self._ranges = ranges
        self._new = Graph(self._old.name, beside)
        #: Old tensor name -> new tensor name.
        self._names: dict[str, str] = {"": ""}
        #: Bias -> what shifts add to it.
        self._constants: dict[str, NDArray[np.float64]] = {}

    def run(self) -> onnx.ModelProto:
        for graph_input in self._old.input:
            self._names[graph_input.name] = self._new.input(graph_input.name)
        for node in self._old.node:
            if node.op_type == "Attention":
                self._attention(node)
            elif self._is_dense(node):
                after = self._consumer[node.output[0]]
                bias = after.input[1] if after.op_type == "BiasGelu" else after.input[4]
                self._names[node.output[0]] = self._dense(node.input[0], node.input[1], bias)
            elif node.op_type == "Identity":
                shape = [d.dim_param or d.dim_value for d in self._old.output[0].type.tensor_type.shape.dim]
                self._new.output(self._name(node.input[0]), node.output[0], shape)
            else:
                self._copy(node)
        return self._new.model()

    def _is_dense(self, node: Any) -> bool:
        if node.op_type != "MatMul" or node.input[1] not in self._weights:
            return False
        after = self._consumer.get(node.output[0])
        return after is not None and after.op_type in ("BiasGelu", "SkipLayerNormalization")

    def _copy(self, node: Any) -> None:
        attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        inputs = [self._name(name) for name in node.input]
        made = self._new.add_many(node.op_type, inputs, len(node.output), domain=node.domain, **attributes)
        self._names.update(zip(node.output, made, strict=True))

    def _attention(self, node: Any) -> None:
        heads = next(a.i for a in node.attribute if a.name == "num_heads")
        joined = self._dense(node.input[0], node.input[1], node.input[2])
        query, key, value = self._new.add_many("Split", [joined], 3, axis=2, num_outputs=3)
        inputs = [query, key, value, self._name(node.input[2]), self._name(node.input[3])]
        self._names[node.output[0]] = self._new.add(
            "MultiHeadAttention", inputs, domain=MICROSOFT, num_heads=heads
        )

    def _dense(self, source: str, weight: str, bias: str) -> str:
        """x W, the bias left to what follows."""
        matrix = self._array(weight).astype(np.float64)
        tensor = self._name(source)
        above_least = self._producer[source].op_type == "BiasGelu"
        if source in self._ranges:
            tensor, matrix, constant = self._balanced(tensor, matrix, self._ranges[source], weight)
            self._constants[bias] = constant
        scales = np.abs(matrix).max(axis=0) / 127
        scales[scales == 0] = 1
        rounded = np.clip(np.rint(matrix / scales), -127, 127)
        if above_least:
            self._constants[bias] = -_GELU_LEAST * (rounded * scales).sum(axis=0)
        quantized, row_scale = self._rows(tensor, matrix.shape[0], above_least=above_least)
        zero = [] if above_least else [self._new.weight("zero_128", np.array(128, np.uint8))]
        inputs = [
            quantized,
            self._new.weight(weight + ".int8", rounded.astype(np.int8)),
            self._new.weight("one", np.array(1, np.float32)),
            self._new.weight(weight + ".scale", scales.astype(np.float32)),
            *zero,
        ]
        product = self._new.add("MatMulIntegerToFloat", inputs, domain=MICROSOFT)
        return self._new.add("Mul", [product, row_scale])

    def _balanced(
        self, tensor: str, matrix: NDArray[np.float64], seen: Channels, name: str
    ) -> tuple[str, NDArray[np.float64], NDArray[np.float64]]:
        """Channels of about equal width; the weights that undo it, and the constant that is left."""
        low, high = seen.low.astype(np.float64), seen.high.astype(np.float64)
        middle = (low + high) / 2
        width = np.maximum((high - low) / 2, 1e-4)
        share = width**_SHARE / np.maximum(np.abs(matrix).max(axis=1), 1e-5) ** (1 - _SHARE)
        share /= np.exp(np.log(share).mean())
        factor = self._new.weight(name + ".factor", (1 / share).astype(np.float32))
        offset = self._new.weight(name + ".offset", (-middle / share).astype(np.float32))
        even = self._new.add("Add", [self._new.add("Mul", [tensor, factor]), offset])
        return even, matrix * share[:, None], middle @ matrix

    def _rows(self, tensor: str, width: int, *, above_least: bool) -> tuple[str, str]:
        """(batch, sequence, width) as unsigned bytes, with one scale a token, (batch, sequence, 1)."""
        g = self._new
        last, flat = g.weight("last", np.array([-1], np.int64)), np.array([-1, width], np.int64)
        most = tensor if above_least else g.add("Abs", [tensor])
        most = g.add("ReduceMax", [most, last], keepdims=1)
        if above_least:
            # The scale divides GELU's least value evenly, so that the zero point is exact.
            least = g.weight("gelu_least", np.array(_GELU_LEAST, np.float32))
            bytes_of = g.weight("gelu_bytes", np.array(_GELU_LEAST * 255, np.float32))
            steps = g.add("Floor", [g.add("Div", [bytes_of, g.add("Add", [most, least])])])
            steps = g.add("Max", [steps, g.weight("one", np.array(1, np.float32))])
            steps = g.add("Min", [steps, g.weight("bytes", np.array(255, np.float32))])
            scale = g.add("Div", [least, steps])
            zero = g.add("Reshape", [g.add("Cast", [steps], to=int(TensorProto.UINT8)), last])
        else:
            scale = g.add("Mul", [most, g.weight("per_step", np.array(1 / 127, np.float32))])
            scale = g.add("Max", [scale, g.weight("tiny", np.array(1e-12, np.float32))])
            zero = ""
        scales = g.add("Reshape", [scale, last])
        if not above_least:
            zero = g.add("Expand", [g.weight("zero_128", np.array(128, np.uint8)), g.add("Shape", [scales])])
        rows = g.add("Reshape", [tensor, g.weight(f"flat_{width}", flat)])
        quantized = g.add("QuantizeLinear", [rows, scales, zero], axis=0)
        return g.add("Reshape", [quantized, g.add("Shape", [tensor])]), scale

    def _name(self, old: str) -> str:
        """The new name of an old tensor; a weight is copied when it is first asked for."""
        if old not in self._names:
            array = self._array(old)
            if old in self._constants:
                array = (array.astype(np.float64) + self._constants[old]).astype(np.float32)
            self._names[old] = self._new.weight(old, array)
        return self._names[old]

    def _array(self, name: str) -> NDArray[Any]:
        tensor = self._weights[name]
        if tensor.data_location != TensorProto.EXTERNAL:
            array: NDArray[Any] = numpy_helper.to_array(tensor)
            return array
        where = {entry.key: entry.value for entry in tensor.external_data}
        dtype = helper.tensor_dtype_to_np_dtype(tensor.data_type)
        return np.memmap(
            self._folder / where["location"], dtype, "r", int(where["offset"]), tuple(tensor.dims)
        )
