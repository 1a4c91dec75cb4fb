"""Settings of the services that run a model."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from gpuctl_serving.kit.settings import Settings


@dataclass(frozen=True, kw_only=True)
class ModelSettings(Settings):
    """What the embedder and the reranker read beyond the common settings."""

    model_dir: Path
    #: `auto` takes the best engine of the device that is here.
    engine: Literal["auto", "onnxruntime-cpu", "torch-cuda", "torch-mps", "torch-cpu", "onnxruntime-cuda"] = (
        "auto"
    )
    #: `auto` is float16 on a GPU and float32 on a CPU; float16 on a CPU and int8 on a GPU are refused.
    dtype: Literal["auto", "float32", "float16", "int8"] = "auto"
    #: Padded tokens of one batch at most; 0 means what the device's measured memory allows.
    max_batch_tokens: int = field(default=0, metadata={"min": 0})
    #: GPU memory it may take, MiB; 0 means all of it.
    vram_mib: int = field(default=0, metadata={"min": 0})
    #: Tokens that may wait; above it requests get 429.
    max_queue_tokens: int = field(default=131_072, metadata={"min": 16})
    #: The same while a CPU answers in place of a GPU.
    degraded_queue_tokens: int = field(default=16_384, metadata={"min": 16})
    #: A batch that takes longer is given up with its engine; 0 is 15 s on a GPU and 90 s on a CPU.
    hang_ms: int = field(default=0, metadata={"min": 0})
    #: Whether the engine that takes over is loaded beforehand, or when it is needed.
    fallback_load: Literal["eager", "lazy"] = "eager"
    #: False makes a batch of whatever waits, as far as memory allows, in the order of arrival and padded to
    #: its longest: what sorting by length is worth can be measured.
    sort_batches: bool = True
    #: Truncation; 0 means the model's own limit, which it never exceeds.
    max_tokens: int = field(default=0, metadata={"min": 0})

    @property
    def smaller_model(self) -> Path | None:
        """Another model that may answer in place of this one: never for vectors, which would not compare."""
        return None
