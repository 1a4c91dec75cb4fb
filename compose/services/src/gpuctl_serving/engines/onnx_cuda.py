"""ONNX Runtime on an NVIDIA GPU: for graphs the PyTorch engine does not take, or machines without PyTorch."""

import contextlib
from pathlib import Path

import onnxruntime as ort

from gpuctl_serving.engines.budget import MIB
from gpuctl_serving.engines.device_faults import classify
from gpuctl_serving.engines.onnx_session import OnnxSession, session_options
from gpuctl_serving.engines.protocol import (
    DeviceLost,
    EngineBroken,
    EngineError,
    EngineFacts,
    EngineSpec,
    OutOfMemory,
    Rows,
    TokenBatch,
)

_CUDA = "CUDAExecutionProvider"
#: Share of the card the arena may take; the rest is for kernels' own memory and for neighbours.
_ARENA_SHARE = 0.8


class OnnxCudaEngine:
    """See Engine. A session that the runtime quietly put on the CPU is refused."""

    def __init__(self, spec: EngineSpec) -> None:
        self._spec = spec
        self._session = OnnxSession()

    def load(self, model: Path) -> EngineFacts:
        """See Engine."""
        if _CUDA not in ort.get_available_providers():
            raise EngineBroken(
                f"onnxruntime {ort.__version__} is built without CUDA: install onnxruntime-gpu"
            )
        # Finds the CUDA libraries that were installed as Python packages; absent in builds without CUDA.
        with contextlib.suppress(AttributeError):
            ort.preload_dlls()
        limit = _arena_limit(self._spec.memory_mib)
        try:
            options = session_options(self._spec.threads)
            session = ort.InferenceSession(str(model), options, providers=[(_CUDA, _arena(limit))])
        except Exception as failure:  # One class per status code, without a base.
            raise EngineBroken(f"ONNX Runtime cannot load {model.name}: {failure}") from failure
        if session.get_providers()[0] != _CUDA:
            found = ", ".join(session.get_providers())
            raise EngineBroken(f"ONNX Runtime put {model.name} on {found} though {_CUDA} was asked for")
        self._session.open(session)
        return EngineFacts(
            device="cuda",
            name=f"onnxruntime {ort.__version__}",
            dtype=self._spec.dtype,
            providers=self.probe(),
            threads=self._spec.threads,
            total_bytes=limit,
        )

    def infer(self, batch: TokenBatch) -> Rows:
        """See Engine."""
        try:
            return self._session.run(batch)
        except EngineError:
            raise
        except Exception as failure:  # As above.
            raise self._named(failure) from failure

    def probe(self) -> tuple[str, ...]:
        """See Engine."""
        return self._session.providers()

    def memory(self) -> int:
        """See Engine. ONNX Runtime does not tell what its arena holds."""
        return 0

    def close(self) -> None:
        """See Engine."""
        self._session.close()

    def _named(self, failure: Exception) -> EngineError:
        match classify(failure):
            case "out-of-memory":
                # The arena neither shrinks nor heals after this: a smaller batch may pass, often it does not.
                return OutOfMemory(str(failure))
            case "device-lost":
                return DeviceLost(str(failure))
            case "other":
                return EngineError(str(failure))


def _arena(limit: int) -> dict[str, str]:
    """Grows by what is asked, not by doubling, up to a limit: else it takes the whole card and fragments."""
    options = {
        "arena_extend_strategy": "kSameAsRequested",
        "cudnn_conv_algo_search": "HEURISTIC",
        # TF32 would round float32 to ten bits, and the canary is held to float32.
        "use_tf32": "0",
    }
    return {**options, "gpu_mem_limit": str(limit)} if limit else options


def _arena_limit(memory_mib: int) -> int:
    """Bytes; 0 where neither a limit was set nor the card's size is known."""
    share = int(_card_bytes() * _ARENA_SHARE)
    return min(filter(None, (share, memory_mib * MIB)), default=0)


def _card_bytes() -> int:
    try:
        import pynvml

        pynvml.nvmlInit()
    except Exception:  # Without a driver each platform raises its own error.
        return 0
    try:
        return int(pynvml.nvmlDeviceGetMemoryInfo(pynvml.nvmlDeviceGetHandleByIndex(0)).total)
    except pynvml.NVMLError:
        return 0
    finally:
        pynvml.nvmlShutdown()
