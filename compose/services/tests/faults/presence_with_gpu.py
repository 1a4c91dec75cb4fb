"""A machine with one GPU and a PyTorch that has CUDA, whatever it really is. Never part of the wheel.

It takes the place of `gpuctl_serving/engines/presence.py`, which stays beside it as `presence_real.py`.
"""

import dataclasses
import importlib
from collections.abc import Mapping
from typing import Any

_real: Any = importlib.import_module("gpuctl_serving.engines.presence_real")
Machine = _real.Machine


def look(env: Mapping[str, str] | None = None) -> Any:
    """This machine, and a GPU that is not there."""
    return dataclasses.replace(_real.look(env), gpus=("Stub GPU",), torch="2.9.0+cu128")


def __getattr__(name: str) -> Any:
    return getattr(_real, name)
