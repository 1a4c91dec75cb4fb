"""Watches the GPUs from a thread of its own: NVML blocks, and hangs with a card that fell off the bus."""

import functools
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from gpuctl_serving.kit.logs import Log
from gpuctl_serving.kit.nvml import Gpu, Nvml, Sample, Xid

#: Errors of the program that ran on the GPU: it gets them as CUDA errors itself. All others are the GPU's.
_PROGRAM_XIDS = frozenset({13, 31, 43, 45})
_ECC = "DCGM_FI_DEV_ECC_DBE_VOL_TOTAL"
_LOOK_SECONDS = 5.0
#: An answer that takes longer does not come.
_HANG_SECONDS = 30.0
#: How long an event counts as a fault. What persists is seen again at every look.
_STICKY_SECONDS = 30.0
#: A host without a GPU is looked at again after this.
_AGAIN_SECONDS = 60.0

log = Log(__name__)
Clock = Callable[[], float]


@dataclass(frozen=True)
class Seen:
    """What was seen last."""

    sample: Sample
    at: float
    #: (UUID, XID) -> how often.
    xids: Mapping[tuple[str, int], int]


class GpuWatch:
    """Starts by itself when it is first asked; ends by itself where there is no GPU."""

    def __init__(
        self,
        open_nvml: Callable[[], Nvml] = Nvml,
        *,
        clock: Clock = time.monotonic,
        look_seconds: float = _LOOK_SECONDS,
        visible: str | None = None,
    ) -> None:
        self._open_nvml = open_nvml
        self._clock = clock
        self._look_seconds = look_seconds
        self._visible = os.environ.get("CUDA_VISIBLE_DEVICES") if visible is None else visible
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._looked = threading.Event()
        self._closed = False
        self._xids: Counter[tuple[str, int]] = Counter()
        self._seen = Seen(Sample(absent="nobody has looked yet"), clock(), {})
        self._ended_at: float | None = None
        #: Since when a look has been waiting for its answer.
        self._asking_since: float | None = None
        self._event_fault: tuple[str, float] | None = None
        self._ecc: dict[str, float] = {}

    def latest(self, wait: float = 0.0) -> Seen:
        """What was seen last; waits so long at most for the first look."""
        self._start()
        self._looked.wait(wait)
        return self._seen

    def fault(self) -> str | None:
        """Why a GPU that this process may use cannot be trusted now (`nvml-fault`), or None. Never blocks."""
        self._start()
        now = self._clock()
        since = self._asking_since
        if since is not None and now - since > _HANG_SECONDS:
            return f"NVML has not answered for {now - since:.0f} s"
        for gpu in self._seen.sample.gpus:
            if gpu.lost is not None and self._ours(gpu):
                return f"GPU {gpu.index} {gpu.name} is lost: {gpu.lost}"
        event = self._event_fault
        return event[0] if event is not None and now - event[1] <= _STICKY_SECONDS else None

    def close(self) -> None:
        """Ends the thread after its present look."""
        self._closed = True

    def _start(self) -> None:
        if self._thread is not None and self._thread.is_alive():
            return
        with self._lock:
            ended = self._ended_at
            recently = ended is not None and self._clock() - ended < _AGAIN_SECONDS
            if self._closed or recently or (self._thread is not None and self._thread.is_alive()):
                return
            self._thread = threading.Thread(target=self._run, name="gpu-watch", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        try:
            self._watch()
        except Exception:  # NVML's surprises must not end what a service measures itself with.
            log.error("gpu-watch-failed")
            self._see(Sample(absent="the watch failed; the log has its trace"))
        finally:
            self._asking_since = None
            self._ended_at = self._clock()
            self._looked.set()

    def _watch(self) -> None:
        self._asking_since = self._clock()
        nvml = self._open_nvml()
        absent = nvml.open()
        if absent is not None:
            self._see(Sample(absent=absent))
            return
        while not self._closed:
            self._asking_since = self._clock()
            self._see(nvml.sample())
            self._asking_since = None
            self._looked.set()
            xid = nvml.wait(self._look_seconds)
            if xid is not None:
                self._hear(xid)
        nvml.close()

    def _see(self, sample: Sample) -> None:
        for gpu in sample.gpus:
            errors = gpu.values.get(_ECC)
            if errors is None:
                continue
            if errors > self._ecc.get(gpu.uuid, errors) and self._ours(gpu):
                self._raise(f"GPU {gpu.index} {gpu.name} has {errors:.0f} uncorrected memory errors")
            self._ecc[gpu.uuid] = errors
        self._seen = Seen(sample, self._clock(), dict(self._xids))

    def _hear(self, xid: Xid) -> None:
        self._xids[(xid.uuid, xid.number)] += 1
        log.warning("gpu-xid", uuid=xid.uuid, xid=xid.number)
        gpu = next((gpu for gpu in self._seen.sample.gpus if gpu.uuid == xid.uuid), None)
        if xid.number not in _PROGRAM_XIDS and (gpu is None or self._ours(gpu)):
            self._raise(f"the driver reports XID {xid.number} on {gpu.name if gpu else xid.uuid}")

    def _raise(self, fault: str) -> None:
        self._event_fault = (fault, self._clock())
        log.error("gpu-fault", detail=fault)

    def _ours(self, gpu: Gpu) -> bool:
        """Whether this process may use it. CUDA_VISIBLE_DEVICES names GPUs by index or by UUID."""
        if self._visible is None:
            return True
        names = [name.strip() for name in self._visible.split(",")]
        return any(name == str(gpu.index) or (len(name) > 4 and gpu.uuid.startswith(name)) for name in names)


@functools.cache
def gpu_watch() -> GpuWatch:
    """The one of this process: NVML's sessions are counted by process."""
    return GpuWatch()
