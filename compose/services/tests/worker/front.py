"""A front of its own, for tests that kill one: loads a worker, prints its pid, does what it was told."""

import os
import signal
import sys
import threading
import time
from pathlib import Path

import numpy as np

from gpuctl_serving.engines.protocol import EngineSpec, TokenBatch, Tokens
from gpuctl_serving.engines.worker.proxy import WorkerEngine
from gpuctl_serving.kit.logs import configure_logging
from tests.worker import child

configure_logging("embedder", "debug")
engine = WorkerEngine(
    EngineSpec("obedient", "cpu", "float32", 1), hang_seconds=600, argv=[sys.executable, child.__file__]
)


def load() -> None:
    """In a thread that ends: the worker must not end with it."""
    engine.load(Path("fine"))


thread = threading.Thread(target=load)
thread.start()
thread.join()
print(engine.pid, flush=True)
match sys.argv[1]:
    case "idle":
        time.sleep(600)
    case "hang":
        token = np.array([child.HANG], np.int32)
        engine.infer(TokenBatch.of([Tokens(token, None, False)], 0))
    case "stopped":
        os.kill(engine.pid or 0, signal.SIGSTOP)
        time.sleep(600)
    case "exit":
        sys.exit(0)
    case "later":
        time.sleep(1.0)
        token = np.array([4], np.int32)
        print(engine.infer(TokenBatch.of([Tokens(token, None, False)], 0)).tolist(), flush=True)
