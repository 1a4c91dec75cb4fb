"""A worker never outlives its front, however the front ends; and it lives as long as the front does."""

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from gpuctl_serving.engines.protocol import EngineSpec
from gpuctl_serving.engines.worker.lifeline import ORPHANED
from gpuctl_serving.engines.worker.process import environment
from gpuctl_serving.engines.worker.pulse import Pulse
from gpuctl_serving.engines.worker.records import Start
from tests.worker import child

SERVICES = Path(__file__).parents[2]
SPEC = EngineSpec("obedient", "cpu", "float32", 1)


@contextmanager
def front(doing: str) -> Iterator[tuple["subprocess.Popen[str]", int]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.worker.front", doing],
        cwd=SERVICES,
        env={"PYTHONPATH": f"{SERVICES / 'src'}:{SERVICES}"},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    try:
        line = process.stdout.readline()
        while line.startswith("{"):
            line = process.stdout.readline()
        yield process, int(line)
    finally:
        process.kill()
        process.wait(10)
        process.stdout.close()


def alive(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return False
    return stat[stat.rindex(b")") + 2 :].split()[0] not in (b"Z", b"X")


def ends(pid: int) -> bool:
    end = time.monotonic() + 5
    while alive(pid) and time.monotonic() < end:
        time.sleep(0.01)
    return not alive(pid)


@pytest.mark.parametrize("doing", ["idle", "hang", "stopped"])
def test_a_front_that_is_killed_takes_its_worker_along_idle_hanging_or_stopped(doing: str) -> None:
    with front(doing) as (process, worker):
        assert alive(worker)
        process.kill()
        assert ends(worker)


def started_by(front_pid: int) -> list[int]:
    """Pids of living workers that a front started, by their command lines."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if f'"front":{front_pid},'.encode() in (folder / "cmdline").read_bytes():
                found.append(int(folder.name))
    return [pid for pid in found if alive(pid)]


def test_no_instant_of_a_start_leaves_a_worker_without_its_front() -> None:
    seen = 0
    for instant in range(6):
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.worker.front", "idle"],
            cwd=SERVICES,
            env={"PYTHONPATH": f"{SERVICES / 'src'}:{SERVICES}"},
            stdout=subprocess.DEVNULL,
        )
        if instant % 2:
            # As soon as there is one: between its fork and its first instruction of Python.
            while not started_by(process.pid):
                time.sleep(0.001)
        else:
            time.sleep(0.1 * instant)
        seen += len(started_by(process.pid))
        process.kill()
        process.wait(10)
        end = time.monotonic() + 5
        while (left := started_by(process.pid)) and time.monotonic() < end:
            time.sleep(0.01)
        assert left == []
    assert seen >= 3


def test_a_front_that_ends_takes_its_worker_along() -> None:
    with front("exit") as (process, worker):
        assert process.wait(10) == 0
        assert ends(worker)


def test_a_worker_lives_on_when_the_thread_that_loaded_it_ends() -> None:
    with front("later") as (process, worker):
        assert process.stdout
        assert "[[4.0, 0.0, 1.0]]" in process.stdout.read()
        assert ends(worker)


def test_a_signal_to_the_group_of_a_front_leaves_its_worker() -> None:
    with front("idle") as (_, worker):
        assert os.getpgid(worker) == worker


def test_the_kernel_ends_a_worker_before_its_front_when_memory_runs_out() -> None:
    with front("idle") as (process, worker):
        adjusted = [int(Path(f"/proc/{pid}/oom_score_adj").read_text()) for pid in (process.pid, worker)]
        assert adjusted[0] < adjusted[1]


def test_a_worker_whose_front_died_before_it_could_tie_itself_ends_at_once() -> None:
    # What it would be told by a front that forked it and was killed before the child's first instruction.
    ours, theirs = socket.socketpair()
    page = Pulse.new_page()
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait(10)
    start = Start(
        spec=SPEC,
        front=dead.pid,
        socket=theirs.fileno(),
        side=theirs.fileno(),
        pulse=page,
        service="s",
        log_level="info",
    )
    with ours, theirs:
        worker = subprocess.Popen(
            [sys.executable, child.__file__, msgspec.json.encode(start).decode()],
            env=environment(SPEC, {}),
            pass_fds=(theirs.fileno(), page),
        )
        os.close(page)
        assert worker.wait(10) == ORPHANED


def test_the_log_lines_of_a_worker_are_those_of_its_service_and_say_which_process() -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.worker.front", "exit"],
        cwd=SERVICES,
        env={"PYTHONPATH": f"{SERVICES / 'src'}:{SERVICES}"},
        stdout=subprocess.PIPE,
        text=True,
    )
    output, _ = process.communicate(timeout=20)
    lines = [msgspec.json.decode(line) for line in output.splitlines() if line.startswith("{")]
    loaded = next(line for line in lines if line["event"] == "worker-loaded")
    assert (loaded["service"], loaded["process"]) == ("embedder", "engine")


def test_a_worker_gets_thread_counts_and_neither_secrets_nor_the_public_socket() -> None:
    front_has = {
        "PYTHONPATH": "/somewhere",
        "GPUCTL_SECRETS_DIR": "/secret",
        "GPUCTL_API_KEYS_FILE": "/secret/keys",
        "GPUCTL_LISTEN_FD": "5",
        "HOME": "/home/a",
    }
    given = environment(EngineSpec("torch-cpu", "cpu", "float32", 6), front_has)
    assert given["OMP_NUM_THREADS"] == given["MKL_NUM_THREADS"] == "6"
    assert given["PYTHONPATH"].split(":") == [str(SERVICES / "src"), "/somewhere"]
    assert given["HOME"] == "/home/a"
    assert not {"GPUCTL_SECRETS_DIR", "GPUCTL_API_KEYS_FILE", "GPUCTL_LISTEN_FD"} & given.keys()
