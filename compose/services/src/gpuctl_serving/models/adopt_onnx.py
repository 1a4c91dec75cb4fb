"""Taking a model.onnx as a source ships it, and giving it our output: pooled vectors or logits."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from gpuctl_serving.models.errors import ModelProblem
from gpuctl_serving.models.heads import LOGITS, VECTORS, Pooling

_HIDDEN = ("last_hidden_state", "token_embeddings")
_KNOWN_INPUTS = {"input_ids", "attention_mask", "token_type_ids"}


def adopt(path: Path, pooling: Pooling | None) -> tuple[onnx.ModelProto, bool]:
    """Loads a foreign graph, weights included; returns it with our output, and whether that is logits."""
    model = onnx.load(path)
    unknown = {graph_input.name for graph_input in model.graph.input} - _KNOWN_INPUTS
    if unknown:
        raise ModelProblem(f"{path.name} has inputs nobody fills", ", ".join(sorted(unknown)))
    outputs = {output.name: output for output in model.graph.output}
    if LOGITS in outputs:
        _keep(model, outputs[LOGITS])
        return model, True
    if VECTORS in outputs:
        _keep(model, outputs[VECTORS])
        return model, False
    hidden = next((name for name in _HIDDEN if name in outputs), None)
    if hidden is None:
        raise ModelProblem(f"{path.name} has no output to use", "it has " + ", ".join(outputs))
    if pooling is None:
        raise ModelProblem(
            "how to pool is not known", "", "set `pooling: mean` or `pooling: cls` for this model"
        )
    _append_pooling(model, outputs[hidden], pooling)
    return model, False


def _keep(model: onnx.ModelProto, output: Any) -> None:
    del model.graph.output[:]
    model.graph.output.append(output)


def _append_pooling(model: onnx.ModelProto, hidden: Any, pooling: Pooling) -> None:
    width = hidden.type.tensor_type.shape.dim[-1].dim_value
    graph = model.graph

    def constant(name: str, value: Any) -> str:
        graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def node(operator: str, inputs: list[str], output: str, **attributes: Any) -> str:
        graph.node.append(helper.make_node(operator, inputs, [output], **attributes))
        return output

    if pooling == "cls":
        node("Gather", [hidden.name, constant("gpuctl_first", np.int64(0))], VECTORS, axis=1)
    else:
        axis = constant("gpuctl_axis", np.array([1], np.int64))
        mask = node("Cast", ["attention_mask"], "gpuctl_mask", to=int(TensorProto.FLOAT))
        row = node("Unsqueeze", [mask, axis], "gpuctl_row")
        total = node("Squeeze", [node("MatMul", [row, hidden.name], "gpuctl_sum"), axis], "gpuctl_total")
        count = node("ReduceSum", [mask, axis], "gpuctl_count", keepdims=1)
        safe = node("Max", [count, constant("gpuctl_least", np.float32(1e-9))], "gpuctl_safe")
        node("Div", [total, safe], VECTORS)
    _keep(model, helper.make_tensor_value_info(VECTORS, TensorProto.FLOAT, ["batch", width]))
