"""What tests of workers share."""

import os
import sys
import time
from collections.abc import Callable

import numpy as np

from gpuctl_serving.engines.protocol import (
    EngineSpec,
    TokenBatch,
    Tokens,
)
from gpuctl_serving.engines.worker.proxy import WorkerEngine
from tests.worker import child

Make = Callable[..., WorkerEngine]
SPEC = EngineSpec("obedient", "cpu", "float32", 3)
ARGV = [sys.executable, child.__file__]


def batch(*texts: list[int], types: bool = False) -> TokenBatch:
    kinds = [np.ones(len(ids), np.int32) if types else None for ids in texts]
    rows = [Tokens(np.array(ids, np.int32), kind, False) for ids, kind in zip(texts, kinds, strict=True)]
    return TokenBatch.of(rows, pad_id=7)


def gone(pid: int, seconds: float = 5.0) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.01)
    return False
