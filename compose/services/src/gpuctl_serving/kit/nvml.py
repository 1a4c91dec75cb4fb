"""What NVIDIA's management library says of the GPUs, as data. Calls may block: not for an event loop."""

import contextlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

#: Errors after which a GPU answers nothing until it is reset or the host is restarted.
_LOST = ("GPU_IS_LOST", "RESET_REQUIRED")


@dataclass(frozen=True)
class Gpu:
    """One GPU at one moment."""

    index: int
    uuid: str
    name: str
    #: Metric -> value, for every value that this card and driver have.
    values: Mapping[str, float] = field(default_factory=dict)
    #: Why it answers nothing any more, or None.
    lost: str | None = None


@dataclass(frozen=True)
class Sample:
    """All GPUs at one moment."""

    gpus: tuple[Gpu, ...] = ()
    driver: str = ""
    #: Why there is none: no library, no driver, no device.
    absent: str | None = None


@dataclass(frozen=True)
class Xid:
    """An error the driver reported, by NVIDIA's number."""

    uuid: str
    number: int


@dataclass(frozen=True)
class Metric:
    """A value of a GPU, named as dcgm-exporter names it."""

    name: str
    help: str
    counter: bool
    read: Callable[[Any, Any], float]


_MIB = 1024 * 1024

#: One entry a series; a value that the card does not have has no series.
METRICS = (
    Metric(
        "DCGM_FI_DEV_GPU_UTIL",
        "Share of time a kernel was running, in percent.",
        False,
        lambda n, h: n.nvmlDeviceGetUtilizationRates(h).gpu,
    ),
    Metric(
        "DCGM_FI_DEV_MEM_COPY_UTIL",
        "Share of time memory was read or written, in percent.",
        False,
        lambda n, h: n.nvmlDeviceGetUtilizationRates(h).memory,
    ),
    Metric(
        "DCGM_FI_DEV_FB_TOTAL", "Memory, MiB.", False, lambda n, h: n.nvmlDeviceGetMemoryInfo(h).total / _MIB
    ),
    Metric(
        "DCGM_FI_DEV_FB_USED",
        "Memory in use, MiB.",
        False,
        lambda n, h: n.nvmlDeviceGetMemoryInfo(h).used / _MIB,
    ),
    Metric(
        "DCGM_FI_DEV_FB_FREE",
        "Memory free, MiB.",
        False,
        lambda n, h: n.nvmlDeviceGetMemoryInfo(h).free / _MIB,
    ),
    Metric(
        "DCGM_FI_DEV_GPU_TEMP",
        "Temperature, Celsius.",
        False,
        lambda n, h: n.nvmlDeviceGetTemperature(h, n.NVML_TEMPERATURE_GPU),
    ),
    Metric("DCGM_FI_DEV_POWER_USAGE", "Power, W.", False, lambda n, h: n.nvmlDeviceGetPowerUsage(h) / 1000),
    Metric(
        "DCGM_FI_DEV_ENFORCED_POWER_LIMIT",
        "Power limit in force, W.",
        False,
        lambda n, h: n.nvmlDeviceGetEnforcedPowerLimit(h) / 1000,
    ),
    Metric(
        "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION",
        "Energy since the driver was loaded, mJ.",
        True,
        lambda n, h: n.nvmlDeviceGetTotalEnergyConsumption(h),
    ),
    Metric(
        "DCGM_FI_DEV_SM_CLOCK",
        "Clock, MHz.",
        False,
        lambda n, h: n.nvmlDeviceGetClockInfo(h, n.NVML_CLOCK_SM),
    ),
    Metric(
        "DCGM_FI_DEV_MEM_CLOCK",
        "Memory clock, MHz.",
        False,
        lambda n, h: n.nvmlDeviceGetClockInfo(h, n.NVML_CLOCK_MEM),
    ),
    Metric(
        "DCGM_FI_DEV_CLOCKS_EVENT_REASONS",
        "Why clocks are lowered, as NVML's bits.",
        False,
        lambda n, h: n.nvmlDeviceGetCurrentClocksEventReasons(h),
    ),
    Metric(
        "DCGM_FI_DEV_PCIE_REPLAY_COUNTER",
        "PCIe packets sent again.",
        True,
        lambda n, h: n.nvmlDeviceGetPcieReplayCounter(h),
    ),
    Metric(
        "DCGM_FI_DEV_ECC_DBE_VOL_TOTAL",
        "Memory errors that could not be corrected, since the driver was loaded.",
        True,
        lambda n, h: n.nvmlDeviceGetTotalEccErrors(
            h, n.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, n.NVML_VOLATILE_ECC
        ),
    ),
)


class Nvml:
    """An open session with the library. One thread at a time."""

    def __init__(self, library: Any = None) -> None:
        """`library` is the module `pynvml` unless a test plays a recording."""
        if library is None:
            import pynvml

            library = pynvml
        self._nvml = library
        self._events: Any = None
        #: What each GPU was called while it still answered.
        self._known: dict[int, tuple[str, str]] = {}

    def open(self) -> str | None:
        """Starts the session; returns why there is none, or None."""
        try:
            self._nvml.nvmlInit()
        except self._nvml.NVMLError as failure:
            return _named(failure)
        try:
            if self._nvml.nvmlDeviceGetCount() > 0:
                return None
            absent = "the driver runs and has no GPU"
        except self._nvml.NVMLError as failure:
            absent = _named(failure)
        self.close()
        return absent

    def close(self) -> None:
        """Ends the session."""
        with contextlib.suppress(self._nvml.NVMLError):
            if self._events is not None:
                self._nvml.nvmlEventSetFree(self._events)
            self._nvml.nvmlShutdown()
        self._events = None

    def sample(self) -> Sample:
        """Asks every GPU for everything. One that is lost is in the answer, by the name it had."""
        nvml = self._nvml
        try:
            driver, count = _text(nvml.nvmlSystemGetDriverVersion()), nvml.nvmlDeviceGetCount()
        except nvml.NVMLError as failure:
            return Sample(tuple(self._lost(index, _named(failure)) for index in sorted(self._known)))
        seen = max(count, len(self._known))
        return Sample(tuple(self._gpu(index) for index in range(seen)), driver)

    def wait(self, seconds: float) -> Xid | None:
        """Waits for the driver to report an error; None when it did not. Sleeps where it cannot tell."""
        nvml = self._nvml
        if self._events is None and not self._register():
            time.sleep(seconds)
            return None
        started = time.monotonic()
        try:
            event = nvml.nvmlEventSetWait_v2(self._events, int(seconds * 1000))
            return Xid(_text(nvml.nvmlDeviceGetUUID(event.device)), int(event.eventData))
        except nvml.NVMLError as failure:
            if not _is(failure, "TIMEOUT"):
                # Not an answer that takes time: do not spin on it.
                time.sleep(max(0.0, seconds - (time.monotonic() - started)))
            return None

    def _register(self) -> bool:
        nvml = self._nvml
        try:
            events = nvml.nvmlEventSetCreate()
        except nvml.NVMLError:
            return False
        some = False
        for index in range(len(self._known)):
            # Cards and containers that do not report errors this way say so one by one.
            with contextlib.suppress(nvml.NVMLError):
                handle = nvml.nvmlDeviceGetHandleByIndex(index)
                nvml.nvmlDeviceRegisterEvents(handle, nvml.nvmlEventTypeXidCriticalError, events)
                some = True
        if some:
            self._events = events
        else:
            with contextlib.suppress(nvml.NVMLError):
                nvml.nvmlEventSetFree(events)
        return some

    def _gpu(self, index: int) -> Gpu:
        nvml = self._nvml
        try:
            handle = nvml.nvmlDeviceGetHandleByIndex(index)
            uuid, name = _text(nvml.nvmlDeviceGetUUID(handle)), _text(nvml.nvmlDeviceGetName(handle))
        except nvml.NVMLError as failure:
            return self._lost(index, _named(failure))
        self._known[index] = (uuid, name)
        values = {}
        for metric in METRICS:
            try:
                values[metric.name] = float(metric.read(nvml, handle))
            except nvml.NVMLError as failure:
                if any(_is(failure, lost) for lost in _LOST):
                    return self._lost(index, _named(failure))
        return Gpu(index, uuid, name, values)

    def _lost(self, index: int, why: str) -> Gpu:
        uuid, name = self._known.get(index, ("", ""))
        return Gpu(index, uuid, name, lost=why)


def _named(failure: Any) -> str:
    return str(failure) or type(failure).__name__


def _is(failure: Any, name: str) -> bool:
    # pynvml makes its classes as NVMLError_Timeout, NVMLError_GpuIsLost.
    return type(failure).__name__.lower() == f"nvmlerror_{name.replace('_', '').lower()}"


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
