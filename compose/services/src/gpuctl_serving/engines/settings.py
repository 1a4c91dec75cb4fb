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
    #: Padded tokens of one batch.
    max_batch_tokens: int = field(default=8192, metadata={"min": 16})
    #: Tokens that may wait; above it requests get 429.
    max_queue_tokens: int = field(default=131_072, metadata={"min": 16})
    #: Truncation; 0 means the model's own limit, which it never exceeds.
    max_tokens: int = field(default=0, metadata={"min": 0})
