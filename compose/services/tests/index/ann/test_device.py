"""Whether a GPU could search: what is installed, and what the machine has."""

import pytest

from gpuctl_serving.engines.presence import Machine
from gpuctl_serving.index.ann.library import faiss
from gpuctl_serving.index.ann.replica import device


def test_a_faiss_for_cpus_is_named_as_what_is_missing() -> None:
    assert "is the CPU build" in (device.available() or "")


@pytest.mark.parametrize(
    ("machine", "said"),
    [
        (Machine(gpus=("NVIDIA L4",)), None),
        (Machine(), "this machine has no NVIDIA GPU"),
        (Machine(hidden="CUDA_VISIBLE_DEVICES='' hides the NVIDIA GPUs"), "hides the NVIDIA GPUs"),
    ],
)
def test_with_a_faiss_for_gpus_it_is_the_card_that_decides(
    machine: Machine, said: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(faiss, "StandardGpuResources", object, raising=False)
    monkeypatch.setattr(device, "look", lambda: machine)
    assert device.available() is None if said is None else said in (device.available() or "")
