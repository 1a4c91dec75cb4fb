"""An engine in its own process: the same answers, typed errors, and nothing left behind."""

import gc
import os
import signal
import threading
from pathlib import Path

import numpy as np
import pytest

from gpuctl_serving.engines.protocol import (
    DeviceLost,
    EngineError,
    EngineSpec,
    OutOfMemory,
    Rows,
)
from gpuctl_serving.engines.worker.priority import LONG_BATCH_NICENESS, give_way
from gpuctl_serving.engines.worker.proxy import WorkerEngine
from tests.worker import child
from tests.worker.support import Make, batch, gone


def test_ragged_batches_come_back_as_rows_whatever_their_size(loaded: WorkerEngine) -> None:
    assert loaded.infer(batch([1, 2, 3], [9])).tolist() == [[6, 0, 3], [9, 0, 1]]
    assert loaded.infer(batch([1, 2], [5, 5, 5], types=True)).tolist() == [[3, 2, 2], [15, 3, 3]]
    # More than the first arena holds: 700,000 tokens are 2.8 MB.
    large = loaded.infer(batch(*[[2] * 7000] * 100))
    assert (large.shape, set(large[:, 0].tolist())) == ((100, 3), {14_000.0})
    wide = loaded.infer(batch([child.WIDE], [1]))
    assert (wide.shape, wide[1, -1]) == ((2, 300_000), 599_999.0)
    assert loaded.infer(batch([4])).tolist() == [[4, 0, 1]]


def test_rows_stay_what_they_were_when_the_next_batch_is_written(loaded: WorkerEngine) -> None:
    first = loaded.infer(batch([1, 2, 3]))
    loaded.infer(batch([50]))
    assert first.tolist() == [[6, 0, 3]]
    assert first.flags.writeable


def test_long_batches_give_way_to_short_ones_on_a_cpu(loaded: WorkerEngine) -> None:
    loaded.infer(batch([1]))
    # The 19th field of stat is the niceness of one thread; the first thread has the process's number.
    niceness = {
        int(task.name): int((task / "stat").read_text().rpartition(")")[2].split()[16])
        for task in Path(f"/proc/{loaded.pid}/task").iterdir()
    }
    ours = os.getpriority(os.PRIO_PROCESS, 0)
    assert niceness.pop(loaded.pid or 0) == min(19, ours + LONG_BATCH_NICENESS)
    assert set(niceness.values()) == {ours}


def test_an_engine_that_only_waits_for_its_device_keeps_its_place() -> None:
    before = os.getpriority(os.PRIO_PROCESS, 0)
    give_way(EngineSpec("torch-cuda", "cuda", "float16", 1))
    assert os.getpriority(os.PRIO_PROCESS, 0) == before


def test_what_the_engine_proves_and_measures_crosses(make: Make) -> None:
    engine = make()
    facts = engine.load(Path("fine"))
    assert (facts.name, facts.threads, facts.device) == ("obedient", 3, "cpu")
    # The second is OMP_NUM_THREADS as the worker saw it.
    assert engine.probe() == ("CPUExecutionProvider", "3")
    assert engine.memory() == 1 << 40
    engine.check()


def test_values_are_carried_as_they_are_and_judged_by_the_caller(loaded: WorkerEngine) -> None:
    assert np.isnan(loaded.infer(batch([child.NAN]))).all()
    assert loaded.infer(batch([child.CUBE])).shape == (1, 3, 1)


def test_errors_keep_their_type_and_an_error_is_not_the_end(loaded: WorkerEngine) -> None:
    with pytest.raises(OutOfMemory, match="8 rows do not fit"):
        loaded.infer(batch([child.MEMORY]))
    with pytest.raises(OutOfMemory, match="that much memory"):
        loaded.infer(batch([child.HUGE]))
    with pytest.raises(EngineError, match="RuntimeError: a kernel failed") as failed:
        loaded.infer(batch([child.RAISE]))
    assert type(failed.value) is EngineError
    assert loaded.infer(batch([4])).tolist() == [[4, 0, 1]]


def test_signals_for_the_group_do_not_end_it(loaded: WorkerEngine) -> None:
    assert loaded.pid
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(loaded.pid, number)
    assert os.getsid(loaded.pid) == loaded.pid != os.getsid(0)
    assert loaded.infer(batch([4])).tolist() == [[4, 0, 1]]


def test_many_engines_leave_no_process_no_descriptor_and_no_mapping(make: Make) -> None:
    def open_now() -> tuple[int, int]:
        gc.collect()
        maps = Path("/proc/self/maps").read_text()
        return len(os.listdir("/proc/self/fd")), maps.count("memfd:")  # noqa: PTH208 - descriptors, not files

    def once() -> None:
        engine = make()
        engine.load(Path("fine"))
        engine.infer(batch([1], [child.WIDE]))
        pid = engine.pid
        engine.close()
        assert pid and gone(pid)

    once()
    before = open_now()
    for _ in range(5):
        once()
    assert open_now() == before


def test_an_engine_is_loaded_once(loaded: WorkerEngine) -> None:
    with pytest.raises(EngineError, match="make a new one"):
        loaded.load(Path("fine"))
    loaded.close()
    loaded.close()
    with pytest.raises(DeviceLost, match="closed"):
        loaded.infer(batch([1]))


def rows_of(engine: WorkerEngine, ids: list[int]) -> Rows:
    return engine.infer(batch(ids))


def test_calls_of_several_threads_do_not_mix(loaded: WorkerEngine) -> None:
    wrong: list[int] = []

    def ask(value: int) -> None:
        for _ in range(50):
            if rows_of(loaded, [value] * 3).tolist() != [[3 * value, 0, 3]]:
                wrong.append(value)

    threads = [threading.Thread(target=ask, args=(value,)) for value in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert wrong == []
