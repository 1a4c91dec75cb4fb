"""An engine in its own process: the same answers, typed errors, and every way to die is noticed in time."""

import gc
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from gpuctl_serving.engines.protocol import (
    DeviceLost,
    EngineBroken,
    EngineError,
    EngineSpec,
    OutOfMemory,
    Rows,
    TokenBatch,
    Tokens,
    WorkerDied,
    WorkerHung,
)
from gpuctl_serving.engines.worker import proxy
from gpuctl_serving.engines.worker.proxy import WorkerEngine
from tests.worker import child

Make = Callable[..., WorkerEngine]
SPEC = EngineSpec("obedient", "cpu", "float32", 3)
ARGV = [sys.executable, child.__file__]


@pytest.fixture
def make() -> Iterator[Make]:
    made: list[WorkerEngine] = []

    def one(hang: float = 30.0, pulse: float = 30.0, load: float = 30.0) -> WorkerEngine:
        engine = WorkerEngine(SPEC, hang_seconds=hang, pulse_seconds=pulse, load_seconds=load, argv=ARGV)
        made.append(engine)
        return engine

    yield one
    for engine in made:
        engine.close()


@pytest.fixture
def loaded(make: Make) -> WorkerEngine:
    engine = make()
    engine.load(Path("fine"))
    return engine


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


def test_a_lost_device_is_lost_for_good_and_its_process_ends(loaded: WorkerEngine) -> None:
    pid = loaded.pid
    assert pid
    with pytest.raises(DeviceLost, match="fell off the bus") as lost:
        loaded.infer(batch([child.LOST]))
    assert not isinstance(lost.value, WorkerDied | WorkerHung)
    assert getattr(lost.value, "reason", None) == "nvml-fault"
    with pytest.raises(DeviceLost, match="fell off the bus"):
        loaded.infer(batch([4]))
    loaded.close()
    assert gone(pid)


@pytest.mark.parametrize(("order", "said"), [(child.EXIT, "status 3"), (child.CRASH, "SIGABRT")])
def test_a_process_that_dies_on_a_batch_says_how(loaded: WorkerEngine, order: int, said: str) -> None:
    with pytest.raises(WorkerDied, match=said):
        loaded.infer(batch([order]))


def test_a_kill_ends_a_batch_that_is_running_at_once(loaded: WorkerEngine) -> None:
    pid = loaded.pid
    assert pid
    threading.Timer(0.2, loaded.kill).start()
    with pytest.raises(WorkerDied, match="SIGKILL"):
        loaded.infer(batch([child.HANG]))
    assert gone(pid)
    assert loaded.pid is None


def test_a_close_does_not_wait_for_a_batch_that_hangs(loaded: WorkerEngine) -> None:
    failures: list[BaseException] = []

    def infer() -> None:
        try:
            loaded.infer(batch([child.HANG]))
        except DeviceLost as lost:
            failures.append(lost)

    running = threading.Thread(target=infer)
    running.start()
    time.sleep(0.1)
    loaded.close()
    running.join(5)
    assert [type(f) for f in failures] == [WorkerDied]


def test_a_death_while_idle_is_seen_by_a_check_and_by_the_next_batch(loaded: WorkerEngine) -> None:
    assert loaded.pid
    os.kill(loaded.pid, signal.SIGKILL)
    end = time.monotonic() + 5
    with pytest.raises(WorkerDied, match="SIGKILL"):
        while time.monotonic() < end:
            loaded.check()
    with pytest.raises(WorkerDied, match="SIGKILL"):
        loaded.infer(batch([4]))


def test_an_answer_that_is_late_is_a_hang(make: Make) -> None:
    engine = make(hang=0.3)
    engine.load(Path("fine"))
    with pytest.raises(WorkerHung, match="did not answer"):
        engine.infer(batch([child.HANG]))
    with pytest.raises(WorkerHung):
        engine.infer(batch([4]))


def test_a_stopped_process_is_a_hang_long_before_its_batch_is_late(make: Make) -> None:
    engine = make(hang=600.0, pulse=0.5)
    engine.load(Path("fine"))
    pid = engine.pid
    assert pid
    with pytest.raises(WorkerHung, match="beating"):
        engine.infer(batch([child.STOP]))
    engine.close()
    assert gone(pid)


def test_a_process_stopped_while_idle_is_seen_by_a_check(make: Make) -> None:
    engine = make(pulse=0.5)
    engine.load(Path("fine"))
    assert engine.pid
    os.kill(engine.pid, signal.SIGSTOP)
    end = time.monotonic() + 10
    with pytest.raises(WorkerHung, match="beating"):
        while time.monotonic() < end:
            engine.check()
            time.sleep(0.05)


@pytest.mark.parametrize(
    ("model", "error", "said"),
    [
        ("broken", EngineBroken, "no outputs"),
        ("exit", WorkerDied, "status 3"),
        ("hang", WorkerHung, "answer"),
    ],
)
def test_a_load_that_fails_says_how(make: Make, model: str, error: type[Exception], said: str) -> None:
    engine = make(load=1.5)
    with pytest.raises(error, match=said):
        engine.load(Path(model))


def test_a_program_that_is_no_worker_is_a_death_with_its_status() -> None:
    engine = WorkerEngine(SPEC, hang_seconds=5, argv=[sys.executable, "-c", "raise SystemExit(9)"])
    with pytest.raises(WorkerDied, match="status 9"):
        engine.load(Path("fine"))
    engine.close()


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


def test_a_short_batch_runs_beside_one_that_takes_long_and_both_end_with_the_process(make: Make) -> None:
    engine = make()
    engine.load(Path("fine"))
    ended: list[BaseException] = []

    def long() -> None:
        try:
            engine.infer(batch([child.HANG]))
        except WorkerDied as died:
            ended.append(died)

    thread = threading.Thread(target=long)
    thread.start()
    for number in range(20):
        assert engine.infer_beside(batch([number, 1])).tolist() == [[number + 1, 0, 2]]
    assert thread.is_alive()
    engine.kill()
    thread.join(10)
    assert len(ended) == 1
    with pytest.raises(WorkerDied):
        engine.infer_beside(batch([1]))


def test_a_process_that_dies_on_a_short_batch_is_dead_for_the_long_one_too(loaded: WorkerEngine) -> None:
    with pytest.raises(WorkerDied):
        loaded.infer_beside(batch([child.EXIT]))
    with pytest.raises(WorkerDied):
        loaded.infer(batch([1]))


@pytest.mark.parametrize(
    "how", ["garbage", "endless", "half", "no-region", "too-large", "negative", "shrinks", "another-answer"]
)
def test_nonsense_from_a_worker_is_a_death_and_never_an_answer(
    how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proxy, "RECORD_SECONDS", 0.5)
    engine = WorkerEngine(SPEC, hang_seconds=30, argv=[sys.executable, liar_file(), how])
    engine.load(Path("fine"))
    pid = engine.pid
    assert pid
    with pytest.raises(WorkerDied):
        engine.infer(batch([1, 2, 3]))
    engine.close()
    assert gone(pid)


def liar_file() -> str:
    return str(Path(child.__file__).with_name("liar.py"))


def test_a_check_of_an_engine_that_is_being_closed_is_a_loss_and_nothing_else(make: Make) -> None:
    engine = make()
    engine.load(Path("fine"))
    raised: list[BaseException] = []

    def check() -> None:
        try:
            while True:
                engine.check()
        except BaseException as failure:
            raised.append(failure)

    looking = threading.Thread(target=check)
    looking.start()
    engine.close()
    looking.join(5)
    assert [type(failure) for failure in raised] == [WorkerDied]
