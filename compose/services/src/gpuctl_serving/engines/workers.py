"""The engines of a running service: each in a process of its own."""

from gpuctl_serving.engines.held import EngineFactory
from gpuctl_serving.engines.protocol import Device, Engine, EngineSpec
from gpuctl_serving.engines.settings import ModelSettings
from gpuctl_serving.engines.worker.proxy import WorkerEngine

#: Seconds after which a batch hangs. A CPU may work on one batch of a large model for long.
_HANGS: dict[Device, float] = {"cuda": 15.0, "mps": 30.0, "cpu": 90.0}


def worker_factory(settings: ModelSettings) -> EngineFactory:
    """Makes engines in worker processes."""

    def make(spec: EngineSpec) -> Engine:
        seconds = settings.hang_ms / 1000 or _HANGS[spec.device]
        return WorkerEngine(spec, hang_seconds=seconds)

    return make
