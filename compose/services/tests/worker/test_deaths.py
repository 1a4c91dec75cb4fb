"""Every way for a worker to die, hang or lie is noticed in time, and is final."""

import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from gpuctl_serving.engines.protocol import (
    DeviceLost,
    EngineBroken,
    WorkerDied,
    WorkerHung,
)
from gpuctl_serving.engines.worker import proxy
from gpuctl_serving.engines.worker.proxy import WorkerEngine
from tests.worker import child
from tests.worker.support import SPEC, Make, batch, gone


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


def test_a_batch_that_computes_nothing_is_a_hang_long_before_it_is_late(make: Make) -> None:
    engine = make(hang=600.0, still=1.0)
    engine.load(Path("fine"))
    with pytest.raises(WorkerHung, match="computed nothing for 1 s"):
        engine.infer(batch([child.HANG]))


def test_a_slow_batch_that_computes_is_waited_for(make: Make) -> None:
    engine = make(still=1.0)
    engine.load(Path("fine"))
    assert len(engine.infer(batch([child.DAWDLE]))) == 1
    time.sleep(1.5)
    assert len(engine.infer(batch([4]))) == 1


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


@pytest.mark.parametrize("beside", [False, True])
def test_a_worker_that_cannot_take_larger_memory_dies_and_never_reads_the_batch_before(
    loaded: WorkerEngine, beside: bool
) -> None:
    infer = loaded.infer_beside if beside else loaded.infer
    infer(batch([1]))
    infer(batch([child.NO_FILES]))
    with pytest.raises(WorkerDied, match="status 71"):
        infer(batch([2] * 400_000))
    with pytest.raises(WorkerDied):
        infer(batch([3]))


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
