"""A stored model meets an engine: precision must be the model's own, or it is refused in a sentence."""

from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from gpuctl_serving.engines.loaded_model import LoadedModel
from gpuctl_serving.engines.protocol import EngineSpec
from gpuctl_serving.kit.errors import LoadFailed

CPU = EngineSpec("onnxruntime-cpu", "cpu", "float32", 2)
T4 = EngineSpec("torch-cuda", "cuda", "float16", 2)


@pytest.fixture
def plain(minilm: Path) -> LoadedModel:
    return LoadedModel.read(minilm, 0)


@pytest.fixture
def quantised(plain: LoadedModel) -> LoadedModel:
    return replace(plain, manifest=msgspec.structs.replace(plain.manifest, dtype="int8"))


def test_a_model_in_float32_runs_in_what_the_engine_computes_in(plain: LoadedModel) -> None:
    assert plain.part(CPU, 512).spec == CPU
    assert plain.part(T4, 512).spec == T4


def test_a_model_that_was_fetched_as_int8_is_told_as_int8(quantised: LoadedModel) -> None:
    assert quantised.part(CPU, 512).spec.dtype == "int8"


def test_an_int8_model_is_refused_on_a_gpu(quantised: LoadedModel) -> None:
    with pytest.raises(LoadFailed, match=r"int8 on a GPU is many times slower.*GPUCTL_DEVICE=cpu"):
        quantised.part(T4, 512)


def test_int8_is_not_claimed_of_a_model_that_is_not(plain: LoadedModel) -> None:
    with pytest.raises(LoadFailed, match=r"fetched in float32\. Fetch it with `dtype: int8`"):
        plain.part(replace(CPU, dtype="int8"), 512)


def test_a_budget_that_was_set_is_kept_and_one_that_was_not_comes_from_memory(plain: LoadedModel) -> None:
    assert (plain.part(CPU, 512).batch_tokens, plain.part(CPU, 512).from_memory) == (512, False)
    automatic = plain.part(CPU, 0)
    assert automatic.from_memory
    assert 512 <= automatic.batch_tokens <= 8192
