"""`/metrics/gpu` and the faults it is the base of, from recordings of NVML."""

import asyncio
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from tests.support.recorded_nvml import RecordedNvml

from gpuctl_serving.kit.gpu_metrics import answer, exposition
from gpuctl_serving.kit.gpu_watch import GpuWatch, Seen
from gpuctl_serving.kit.nvml import Gpu, Nvml, Sample


class TurnedClock:
    """Time that a test turns on."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@contextmanager
def watching(name: str, visible: str | None = None) -> Iterator[tuple[GpuWatch, RecordedNvml, TurnedClock]]:
    library, clock = RecordedNvml(name), TurnedClock()
    # `visible=None` would read this machine's environment.
    watch = GpuWatch(
        lambda: Nvml(library), clock=clock, look_seconds=60, visible="0,1,GPU" if visible is None else visible
    )
    watch.latest(5)
    try:
        yield watch, library, clock
    finally:
        watch.close()
        library.answers.set()
        library.go.set()


def until(condition: Callable[[], Any]) -> None:
    end = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.005)


def series(watch: GpuWatch) -> dict[str, float]:
    """Name (and XID) -> value. By hand: prometheus_client's parser renames counters without `_total`."""
    found = {}
    for line in exposition(watch.latest(), watch.fault()).splitlines():
        if line.startswith("#"):
            continue
        series, _, value = line.rpartition(" ")
        xid = re.search(r'xid="(\d+)"', series)
        found[series.partition("{")[0] + (xid.group(1) if xid else "")] = float(value)
    return found


@pytest.mark.parametrize(
    ("recording", "why"),
    [
        ("no-library", "Shared Library Not Found"),
        ("no-driver", "Driver Not Loaded"),
        ("driver-upgraded", "Version Mismatch"),
        ("no-device", "has no GPU"),
    ],
)
def test_a_host_without_a_gpu_answers_200_and_says_why(recording: str, why: str) -> None:
    with watching(recording) as (watch, library, _):
        response = asyncio.run(answer(watch))
        text = bytes(response.body).decode()
        assert response.status_code == 200
        assert "\ngpu_present 0\n" in text
        assert why.lower() in text.lower()
        assert "DCGM" not in text
        assert watch.fault() is None
        assert library.open_sessions == 0


def test_a_gpu_is_shown_with_the_names_and_units_of_dcgm() -> None:
    with watching("t4") as (watch, _, _clock):
        found = series(watch)
        text = exposition(watch.latest(), None)
    assert found["gpu_present"] == 1
    assert found["DCGM_FI_DEV_FB_USED"] == 2560
    assert found["DCGM_FI_DEV_FB_TOTAL"] == 15360
    assert found["DCGM_FI_DEV_GPU_UTIL"] == 37
    assert found["DCGM_FI_DEV_POWER_USAGE"] == 52.34
    assert found["DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION"] == 918273645123
    assert found["DCGM_EXP_XID_ERRORS_TOTAL0"] == 0
    assert 'modelName="Tesla T4"' in text
    assert 'DCGM_FI_DRIVER_VERSION="580.126.09"' in text


def test_values_a_card_does_not_have_have_no_series() -> None:
    with watching("wsl") as (watch, _, _clock):
        found = series(watch)
    assert found["DCGM_FI_DEV_GPU_TEMP"] == 61
    assert "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION" not in found
    assert "DCGM_FI_DEV_ECC_DBE_VOL_TOTAL" not in found


@pytest.mark.parametrize("recording", ["lost", "lost-while-asked"])
def test_a_lost_gpu_is_a_fault_and_keeps_its_name(recording: str) -> None:
    with watching(recording) as (watch, library, _):
        assert watch.fault() is None
        library.go.set()
        until(watch.fault)
        assert "Tesla T4 is lost" in str(watch.fault())
        assert series(watch)["gpu_lost"] == 1
        assert 'modelName="Tesla T4"' in exposition(watch.latest(), watch.fault())


def test_a_gpu_that_comes_back_is_no_fault_any_more() -> None:
    with watching("lost") as (watch, library, _):
        library.go.set()
        until(watch.fault)
        library.go.set()
        until(lambda: not library.go.is_set())
        library.go.set()
        until(lambda: watch.fault() is None)


def test_an_error_of_the_gpu_is_a_fault_for_a_while_and_a_program_s_own_is_not() -> None:
    with watching("xid") as (watch, library, clock):
        library.go.set()
        until(lambda: watch.latest().xids)
        assert watch.fault() is None
        library.go.set()
        until(watch.fault)
        assert watch.fault() == "the driver reports XID 79 on Tesla T4"
        until(lambda: len(watch.latest().xids) == 2)
        found = series(watch)
        assert (found["DCGM_EXP_XID_ERRORS_TOTAL31"], found["DCGM_EXP_XID_ERRORS_TOTAL79"]) == (1, 1)
        clock.now += 60
        assert watch.fault() is None


def test_new_uncorrected_memory_errors_are_a_fault_and_old_ones_are_not() -> None:
    with watching("ecc") as (watch, library, _):
        assert watch.fault() is None
        library.go.set()
        until(watch.fault)
        assert watch.fault() == "GPU 0 Tesla T4 has 2 uncorrected memory errors"


@pytest.mark.parametrize(
    ("visible", "concerned"), [("0", False), ("1", True), ("GPU-bbbb2222", True), ("GPU-aaaa1111", False)]
)
def test_a_lost_gpu_concerns_only_those_who_may_use_it(visible: str, concerned: bool) -> None:
    with watching("two-one-lost", visible) as (watch, library, _):
        library.go.set()
        until(lambda: any(gpu.lost for gpu in watch.latest().sample.gpus))
        assert (watch.fault() is not None) == concerned


def test_nvml_that_hangs_blocks_nobody_and_becomes_a_fault() -> None:
    with watching("t4") as (watch, library, clock):
        library.answers.clear()
        library.go.set()
        until(lambda: not library.go.is_set())
        before = watch.latest()
        clock.now += 31
        until(watch.fault)
        assert watch.fault() == "NVML has not answered for 31 s"
        assert watch.latest(5) is before
        library.answers.set()
        until(lambda: watch.fault() is None)


def test_labels_are_escaped() -> None:
    seen = Seen(Sample((Gpu(0, "GPU-1", 'a "card"\nwith \\'),)), 0.0, {})
    families = list(text_string_to_metric_families(exposition(seen, 'why "not"')))
    lost = next(family for family in families if family.name == "gpu_lost")
    assert lost.samples[0].labels["modelName"] == 'a "card"\nwith \\'
