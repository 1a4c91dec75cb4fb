"""A worker whose engine does what the first id of a batch says. Run by tests in place of the real worker."""

import os
import resource
import signal
import sys
import time
from pathlib import Path

import numpy as np

from gpuctl_serving.engines.protocol import (
    DeviceLost,
    EngineBroken,
    EngineFacts,
    EngineSpec,
    OutOfMemory,
    Rows,
    TokenBatch,
)
from gpuctl_serving.engines.worker.__main__ import serve

MEMORY, LOST, RAISE, EXIT, HANG, STOP, NAN, WIDE, CUBE, CRASH, HUGE, NO_FILES, DAWDLE = range(1001, 1014)


class ExoticLoss(DeviceLost):
    """A loss that only this process knows."""

    reason = "nvml-fault"


def dawdle(seconds: float) -> None:
    """Computes a little now and then, as on a machine that is busy with other things."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        enough = time.process_time() + 0.02
        while time.process_time() < enough:
            pass
        time.sleep(0.05)


class ObedientEngine:
    """Answers (sum of ids, sum of types, tokens) of each text."""

    def __init__(self, spec: EngineSpec) -> None:
        self._spec = spec

    def load(self, model: Path) -> EngineFacts:
        match model.name:
            case "broken":
                raise EngineBroken("the graph has no outputs")
            case "exit":
                os._exit(3)
            case "hang":
                time.sleep(3600)
        return EngineFacts("cpu", "obedient", "float32", self.probe(), self._spec.threads)

    def infer(self, batch: TokenBatch) -> Rows:
        """By the first id."""
        rows = self._rows(batch)
        match int(batch.flat[0]):
            case 1001:
                raise OutOfMemory("8 rows do not fit")
            case 1002:
                raise ExoticLoss("it fell off the bus")
            case 1003:
                raise RuntimeError("a kernel failed")
            case 1004:
                os._exit(3)
            case 1005:
                time.sleep(3600)
            case 1006:
                os.kill(os.getpid(), signal.SIGSTOP)
            case 1007:
                return rows * np.float32(np.nan)
            case 1008:
                return np.arange(len(batch) * 300_000, dtype=np.float32).reshape(len(batch), -1)
            case 1009:
                return rows[:, :, None]
            case 1010:
                os.abort()
            case 1011:
                raise MemoryError
            case 1012:
                resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))
            case 1013:
                dawdle(3.0)
        return rows

    @staticmethod
    def _rows(batch: TokenBatch) -> Rows:
        ids = (batch.ids * batch.mask).sum(axis=1)
        return np.stack([ids, batch.types.sum(axis=1), batch.lengths], axis=1).astype(np.float32)

    def probe(self) -> tuple[str, ...]:
        return ("CPUExecutionProvider", os.environ["OMP_NUM_THREADS"])

    def memory(self) -> int:
        return 1 << 40

    def close(self) -> None:
        pass


if __name__ == "__main__":
    serve(sys.argv[1], ObedientEngine)
