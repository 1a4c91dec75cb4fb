"""ONNX Runtime on CUDA, as far as a build without CUDA can show: it never passes for a GPU."""

from pathlib import Path

import pytest

from gpuctl_serving.engines.protocol import DeviceLost, EngineBroken, EngineSpec
from gpuctl_serving.engines.select import make_engine


def test_a_build_without_cuda_is_refused_and_not_run_on_the_cpu(minilm: Path) -> None:
    engine = make_engine(EngineSpec("onnxruntime-cuda", "cuda", "float32", 1))
    with pytest.raises(EngineBroken, match="is built without CUDA: install onnxruntime-gpu"):
        engine.load(minilm / "model.onnx")
    with pytest.raises(DeviceLost, match="closed"):
        engine.probe()
    engine.close()
