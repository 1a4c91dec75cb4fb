"""`GET /metrics/gpu`: the GPUs as dcgm-exporter would show them, and `gpu_present 0` where there is none."""

import asyncio
import platform
import time
from collections.abc import Iterable, Iterator, Mapping

from prometheus_client.exposition import CONTENT_TYPE_LATEST
from starlette.requests import Request
from starlette.responses import Response

from gpuctl_serving.kit.gpu_watch import GpuWatch, Seen, gpu_watch
from gpuctl_serving.kit.nvml import METRICS, Gpu

#: How long the first request waits for the first look; later ones get what was seen last.
_FIRST_LOOK_SECONDS = 2.0

Labels = Mapping[str, str]


async def gpu_metrics(_: Request) -> Response:
    """The handler. NVML is asked by a thread of its own, so that a card that hangs hangs nothing here."""
    return await answer(gpu_watch())


async def answer(watch: GpuWatch) -> Response:
    """The exposition of one watch."""
    seen = await asyncio.to_thread(watch.latest, _FIRST_LOOK_SECONDS)
    return Response(exposition(seen, watch.fault()), media_type=CONTENT_TYPE_LATEST)


def exposition(seen: Seen, fault: str | None) -> str:
    """Prometheus text of what was seen. Written here: prometheus_client adds `_total` to DCGM's names."""
    return "".join(f"{line}\n" for line in _lines(seen, fault))


def _lines(seen: Seen, fault: str | None) -> Iterator[str]:
    sample = seen.sample
    yield from _family("gpu_present", "1 when NVML sees a GPU.", "gauge", [({}, 0 if sample.absent else 1)])
    if sample.absent is not None:
        why = {"why": sample.absent}
        yield from _family("gpu_absent_info", "Why there is no GPU, as a label.", "gauge", [(why, 1)])
    age = max(0.0, time.monotonic() - seen.at)
    yield from _family("gpu_sample_age_seconds", "Age of everything here.", "gauge", [({}, age)])
    untrusted = [({"why": fault or ""}, 0 if fault is None else 1)]
    yield from _family("gpu_fault", "1 while a GPU of this service cannot be trusted.", "gauge", untrusted)
    if not sample.gpus:
        return
    labelled = [(gpu, _labels(gpu, sample.driver)) for gpu in sample.gpus]
    lost = [(labels, 0 if gpu.lost is None else 1) for gpu, labels in labelled]
    yield from _family("gpu_lost", "1 for a GPU that answers nothing any more.", "gauge", lost)
    for metric in METRICS:
        values = [(labels, gpu.values[metric.name]) for gpu, labels in labelled if metric.name in gpu.values]
        yield from _family(metric.name, metric.help, "counter" if metric.counter else "gauge", values)
    help_ = "Errors the driver reported, by number; 0 stands for none."
    yield from _family("DCGM_EXP_XID_ERRORS_TOTAL", help_, "counter", _xids(seen, labelled))


def _xids(seen: Seen, labelled: list[tuple[Gpu, Labels]]) -> Iterator[tuple[Labels, float]]:
    """Every GPU has a series from the start: an alert would miss the error that its series is born with."""
    for gpu, labels in labelled:
        yield {**labels, "xid": "0"}, 0
        for (uuid, number), count in sorted(seen.xids.items()):
            if uuid == gpu.uuid:
                yield {**labels, "xid": str(number)}, count


def _labels(gpu: Gpu, driver: str) -> Labels:
    return {
        "gpu": str(gpu.index),
        "UUID": gpu.uuid,
        "device": f"nvidia{gpu.index}",
        "modelName": gpu.name,
        "Hostname": platform.node(),
        "DCGM_FI_DRIVER_VERSION": driver,
    }


def _family(name: str, help_: str, kind: str, values: Iterable[tuple[Labels, float]]) -> Iterator[str]:
    # `g` would round a counter of millions to six digits.
    lines = [f"{name}{_inside(labels)} {round(value, 3):.15g}" for labels, value in values]
    if lines:
        yield f"# HELP {name} {help_}"
        yield f"# TYPE {name} {kind}"
        yield from lines


def _inside(labels: Labels) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items()) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
