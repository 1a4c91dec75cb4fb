"""A BERT or XLM-RoBERTa encoder in PyTorch, over flat tokens: dense layers never see padding."""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as functional

from gpuctl_serving.engines import ragged
from gpuctl_serving.engines.encoder_weights import Array, Classifier, Dense, EncoderWeights, Layer, Norm
from gpuctl_serving.engines.protocol import TokenBatch
from gpuctl_serving.engines.torch_attention import Attention, Layout, Tensor


class TorchEncoder:
    """The encoder's weights on a device, with what computes it. The head is always in float32."""

    def __init__(self, weights: EncoderWeights, attention: Attention, device: Any, dtype: Any) -> None:
        self._attention = attention
        self._target = device
        self._dtype = dtype
        self._word = self._place(weights.word)
        self._position = self._place(weights.position)
        self._segment = None if weights.segment is None else self._place(weights.segment)
        self._norm = self._place_norm(weights.norm)
        self._layers = [_TorchLayer(self, layer) for layer in weights.layers]
        self._head = weights.head if isinstance(weights.head, str) else _TorchClassifier(weights.head, device)

    def __call__(self, batch: TokenBatch) -> Tensor:
        """One row of float32 a text: its pooled vector, or its logit."""
        layout = self._attention.layout(batch.lengths, self.device)
        hidden = self._embed(batch)
        for layer in self._layers:
            hidden = layer(hidden, layout, self._attention)
        first = hidden[layout.bounds[:-1].long()].float()
        if isinstance(self._head, _TorchClassifier):
            return self._head(first)
        return first if self._head == "cls" else self._mean(hidden, batch)

    @property
    def device(self) -> Any:
        """Where the weights are: asked of them, not remembered."""
        return self._word.device

    def place_dense(self, dense: Dense) -> tuple[Tensor, Tensor]:
        """Weight as (out, in), the way `linear` takes it, and bias."""
        return self._place(dense.weight).t(), self._place(dense.bias)

    def place_norm(self, norm: Norm) -> tuple[Tensor, Tensor, float]:
        """Gamma, beta, epsilon."""
        return self._place_norm(norm)

    def _place_norm(self, norm: Norm) -> tuple[Tensor, Tensor, float]:
        return self._place(norm.gamma), self._place(norm.beta), norm.epsilon

    def _place(self, array: Array) -> Tensor:
        # A copy: maps are read-only, and their file may be gone before the engine is. Rounded here and not
        # on the device, which would need room for both.
        return torch.from_numpy(np.array(array)).to(self._dtype).to(self._target)

    def _embed(self, batch: TokenBatch) -> Tensor:
        numbers = [batch.flat, ragged.positions_of(batch.lengths)]
        if self._segment is not None:
            numbers.append(np.zeros_like(batch.flat) if batch.flat_types is None else batch.flat_types)
        # One copy to the device for all of them.
        rows = torch.from_numpy(np.stack(numbers)).to(self.device)
        hidden = functional.embedding(rows[0], self._word) + functional.embedding(rows[1], self._position)
        if self._segment is not None:
            hidden = hidden + functional.embedding(rows[2], self._segment)
        return norm(hidden, self._norm)

    def _mean(self, hidden: Tensor, batch: TokenBatch) -> Tensor:
        lengths = torch.from_numpy(batch.lengths.astype(np.int64)).to(self.device)
        if self.device.type == "mps":  # It has no segment_reduce.
            owner = torch.repeat_interleave(torch.arange(len(batch), device=self.device), lengths)
            zeros = torch.zeros((len(batch), hidden.shape[1]), device=self.device)
            return zeros.index_add_(0, owner, hidden.float()) / lengths[:, None]
        return torch.segment_reduce(hidden.float(), "mean", lengths=lengths)


class _TorchLayer:
    def __init__(self, encoder: TorchEncoder, layer: Layer) -> None:
        self._heads = layer.heads
        self._attention = encoder.place_dense(layer.attention)
        self._project = encoder.place_dense(layer.project)
        self._project_norm = encoder.place_norm(layer.project_norm)
        self._up = encoder.place_dense(layer.up)
        self._down = encoder.place_dense(layer.down)
        self._down_norm = encoder.place_norm(layer.down_norm)

    def __call__(self, hidden: Tensor, layout: Layout, attention: Attention) -> Tensor:
        tokens, width = hidden.shape
        qkv = functional.linear(hidden, *self._attention).view(tokens, 3, self._heads, width // self._heads)
        context = attention.attend(qkv, layout).reshape(tokens, width)
        hidden = norm(functional.linear(context, *self._project) + hidden, self._project_norm)
        inner = functional.gelu(functional.linear(hidden, *self._up))
        return norm(functional.linear(inner, *self._down) + hidden, self._down_norm)


class _TorchClassifier:
    """In float32 whatever the encoder computes in: one logit decides an order."""

    def __init__(self, head: Classifier, device: Any) -> None:
        self._inner = [torch.from_numpy(np.array(a)).to(device) for a in (head.inner.weight, head.inner.bias)]
        self._out = [torch.from_numpy(np.array(a)).to(device) for a in (head.out.weight, head.out.bias)]

    def __call__(self, first: Tensor) -> Tensor:
        inner = torch.tanh(first @ self._inner[0] + self._inner[1])
        return (inner @ self._out[0] + self._out[1]).squeeze(-1)


def norm(hidden: Tensor, weights: tuple[Tensor, Tensor, float]) -> Tensor:
    """Layer normalisation over the last axis; PyTorch's kernels sum in float32."""
    gamma, beta, epsilon = weights
    return functional.layer_norm(hidden, hidden.shape[-1:], gamma, beta, epsilon)
