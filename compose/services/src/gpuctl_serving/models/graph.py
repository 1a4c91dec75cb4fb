"""Writing an ONNX graph node by node, and saving it, large ones with their weights beside."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

#: Fused operators of ONNX Runtime.
MICROSOFT = "com.microsoft"
OPSET = 18
IR_VERSION = 9
#: Protobuf cannot hold 2 GiB; above this the weights go into a file of their own.
EXTERNAL_ABOVE = 1_500_000_000
#: Bytes below which a weight stays in the graph all the same.
_SMALL = 1024
#: Weights begin on a page, so that a runtime may map them.
_ALIGNMENT = 4096


class Graph:
    """Collects nodes, weights, inputs and outputs; `model` makes a checked ModelProto of them."""

    def __init__(self, name: str, beside: Path | None = None) -> None:
        self._name = name
        #: File that takes the large weights; None keeps them in the graph.
        self._beside = beside
        self._nodes: list[Any] = []
        self._weights: dict[str, Any] = {}
        self._inputs: list[Any] = []
        self._outputs: list[Any] = []

    def input(self, name: str) -> str:
        """An input of int32 token data, (batch, sequence)."""
        self._inputs.append(helper.make_tensor_value_info(name, TensorProto.INT32, ["batch", "sequence"]))
        return name

    def output(self, tensor: str, name: str, shape: Sequence[str | int]) -> None:
        """Names a tensor as an output of float32."""
        self._nodes.append(helper.make_node("Identity", [tensor], [name], name=f"output_{name}"))
        self._outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape)))

    def weight(self, name: str, array: NDArray[Any]) -> str:
        """Adds a constant once; returns its name."""
        if name not in self._weights:
            plain = np.asarray(array, order="C")
            large = self._beside is not None and plain.nbytes >= _SMALL
            self._weights[name] = (
                self._external(name, plain) if large else numpy_helper.from_array(plain, name)
            )
        return name

    def _external(self, name: str, array: NDArray[Any]) -> Any:
        """Writes a weight at once and keeps only where it is: no message ever holds all of a large model."""
        if self._beside is None:
            raise ValueError("there is no file for external weights")
        with self._beside.open("ab") as file:
            file.write(b"\0" * (-file.tell() % _ALIGNMENT))
            offset = file.tell()
            array.tofile(file)
        tensor = TensorProto(name=name, dims=array.shape, data_location=TensorProto.EXTERNAL)
        tensor.data_type = helper.np_dtype_to_tensor_dtype(array.dtype)
        for key, value in (("location", self._beside.name), ("offset", offset), ("length", array.nbytes)):
            tensor.external_data.add(key=key, value=str(value))
        return tensor

    def add(self, operator: str, inputs: Sequence[str], *, domain: str = "", **attributes: Any) -> str:
        """Adds a node with one output; returns the output's name."""
        return self.add_many(operator, inputs, 1, domain=domain, **attributes)[0]

    def add_many(
        self, operator: str, inputs: Sequence[str], outputs: int, *, domain: str = "", **attributes: Any
    ) -> list[str]:
        """Adds a node with several outputs; returns their names."""
        number = len(self._nodes)
        names = [f"t{number}_{index}" for index in range(outputs)]
        node = helper.make_node(
            operator, inputs, names, name=f"n{number}_{operator}", domain=domain, **attributes
        )
        self._nodes.append(node)
        return names

    def model(self) -> onnx.ModelProto:
        """The finished model."""
        graph = helper.make_graph(
            self._nodes, self._name, self._inputs, self._outputs, list(self._weights.values())
        )
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(MICROSOFT, 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="gpuctl")


def save_model(model: onnx.ModelProto, path: Path, external_above: int = EXTERNAL_ABOVE) -> list[str]:
    """Writes the model; returns the names of the files it takes (one, or two when the weights are large)."""
    beside = beside_of(path)
    total = sum(len(weight.raw_data) for weight in model.graph.initializer)
    if total > external_above:
        onnx.save_model(model, path, save_as_external_data=True, location=beside.name, size_threshold=_SMALL)
    else:
        path.write_bytes(model.SerializeToString(deterministic=True))
    return [path.name, *([beside.name] if beside.exists() else [])]


def beside_of(path: Path) -> Path:
    """Where the weights of a large model are."""
    return path.with_name(path.name + ".data")
