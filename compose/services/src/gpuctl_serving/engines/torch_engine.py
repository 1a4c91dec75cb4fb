"""What the PyTorch engines share: loading our graph's weights, running a batch, naming errors."""

import gc
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gpuctl_serving.engines import ragged
from gpuctl_serving.engines.device_faults import classify
from gpuctl_serving.engines.encoder_weights import EncoderWeights, read_encoder
from gpuctl_serving.engines.protocol import (
    Device,
    DeviceLost,
    EngineBroken,
    EngineError,
    EngineFacts,
    EngineSpec,
    OutOfMemory,
    Rows,
    TokenBatch,
)
from gpuctl_serving.engines.torch_attention import Attention, choose_attention
from gpuctl_serving.engines.torch_encoder import TorchEncoder

_DTYPES = {"float32": torch.float32, "float16": torch.float16}


class TorchEngine:
    """See Engine. A subclass says which device it is, and how that is opened, asked and given back."""

    device: Device

    def __init__(self, spec: EngineSpec) -> None:
        self._spec = spec
        self._encoder: TorchEncoder | None = None
        self._attention: Attention | None = None
        self._limits = {"vocabulary": 0, "positions": 0, "segments": 0}
        self._measured = (0, 0, 0)

    def load(self, model: Path) -> EngineFacts:
        """See Engine."""
        weights = read_encoder(model)
        failure: EngineError | None = None
        try:
            torch.set_num_threads(self._spec.threads)
            with torch.inference_mode():
                self._place(weights, self.open_device(self._spec.memory_mib), self.dtype())
                self._measured = self.measure(self._trial_batch())
        except EngineError:
            raise
        except Exception as error:  # PyTorch raises RuntimeError and its heirs for everything.
            failure = self._named(error)
        if failure is not None:
            self._give_back()
            raise EngineBroken(f"PyTorch cannot load {model.name}: {failure}")
        total, free, token = self._measured
        return EngineFacts(
            device=self.device,
            name=f"torch {torch.__version__}",
            dtype=self._spec.dtype,
            providers=self.probe(),
            threads=self._spec.threads,
            total_bytes=total,
            free_bytes=free,
            token_bytes=token,
        )

    def dtype(self) -> Any:
        """What it computes in."""
        return _DTYPES[self._spec.dtype]

    def infer(self, batch: TokenBatch) -> Rows:
        """See Engine."""
        ragged.check_batch(batch, **self._limits)
        failure: EngineError
        try:
            with torch.inference_mode():
                return self.run(batch)
        except EngineError:
            raise
        except Exception as error:  # As above.
            failure = self._named(error)
        # Only here are the tensors of the failed batch gone, and their memory can be given back.
        if isinstance(failure, OutOfMemory):
            self.trim()
        raise failure

    def probe(self) -> tuple[str, ...]:
        """See Engine: the device that holds the weights now, and how attention is computed."""
        if self._encoder is None or self._attention is None:
            raise DeviceLost("the engine is closed")
        found = self._encoder.device
        if found.type != self.device:
            raise DeviceLost(f"the weights are on {found}, not on {self.device}")
        return (self.describe(found), f"attention={self._attention.name}")

    def memory(self) -> int:
        """See Engine."""
        return 0

    def close(self) -> None:
        """See Engine."""
        self._give_back()

    def open_device(self, memory_mib: int) -> Any:
        """The device, proven to be there, with at most so much of its memory. Raises EngineBroken."""
        return torch.device(self.device)

    def measure(self, batch: TokenBatch) -> tuple[int, int, int]:
        """Bytes it may use, bytes of them that are free, and what a token of this batch takes; 0: unknown."""
        return 0, 0, 0

    def run(self, batch: TokenBatch) -> Rows:
        """One batch, with whatever PyTorch raises."""
        if self._encoder is None:
            raise DeviceLost("the engine is closed")
        return np.asarray(self._encoder(batch).cpu().numpy(), np.float32)

    def describe(self, device: Any) -> str:
        """The device in its own words."""
        return str(device)

    def trim(self) -> None:
        """Gives cached memory back to the device."""

    def _place(self, weights: EncoderWeights, device: Any, dtype: Any) -> None:
        heads = weights.layers[0].heads
        self._attention = choose_attention(device, dtype, heads=heads, width=weights.hidden // heads)
        self._encoder = TorchEncoder(weights, self._attention, device, dtype)
        self._limits = {
            "vocabulary": len(weights.word),
            "positions": len(weights.position),
            "segments": 0 if weights.segment is None else len(weights.segment),
        }

    def _trial_batch(self) -> TokenBatch:
        """As many tokens as show what a token costs, and few enough for any card."""
        width = min(64, self._limits["positions"])
        lengths = np.full(64, width, np.int32)
        return TokenBatch(np.zeros(64 * width, np.int32), None, lengths, 0)

    def _named(self, error: Exception) -> EngineError:
        # The message only: the error itself holds the frames that hold the tensors.
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        match classify(error):
            case "out-of-memory":
                return OutOfMemory(first)
            case "device-lost":
                return DeviceLost(first)
            case "other":
                return EngineError(f"{type(error).__name__}: {first}")

    def _give_back(self) -> None:
        self._encoder = None
        gc.collect()
        self.trim()
