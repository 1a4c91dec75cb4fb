"""Processes that write until they are killed, and say after each acknowledgement what was acknowledged.

Each is forked from one that only loaded the libraries, so that hundreds of kills take minutes.
"""

import itertools
import os
import signal
import sys
import threading
import time
from pathlib import Path

from gpuctl_serving.index.core import Core
from gpuctl_serving.index.maintenance import Maintenance
from tests.index import direct

WRITERS = 3


def say(line: str) -> None:
    """One line in one write: it arrives whole or not at all."""
    os.write(1, (line + "\n").encode())


def keep_writing(core: Core, writer: int, round_number: int) -> None:
    """Adds, replaces and deletes ids of its own."""
    for number in itertools.count():
        name = f"r{round_number}w{writer}n{number}"
        direct.add(core, [direct.item(name, [1.0, number % 7, writer], {"v": 1})], upsert=False)
        say(f"added {name}")
        if number % 3 == 1:
            direct.add(core, [direct.item(name, [1.0, number % 5, 9], {"v": 2})])
            say(f"updated {name}")
        if number % 5 == 4:
            say(f"deleting {name}")
            direct.delete(core, [name])
            say(f"deleted {name}")


def die_before_commit(core: Core, number: int) -> None:
    """Kills this process before its n-th COMMIT, after a pause in which it could say too much."""
    seen = itertools.count(1)

    def look(statement: str) -> None:
        if statement == "COMMIT" and next(seen) == number:
            time.sleep(0.05)
            os.kill(os.getpid(), signal.SIGKILL)

    core.live.store.connection.set_trace_callback(look)


def keep_snapshotting(core: Core) -> None:
    """One snapshot after another: the log is trimmed while it is written."""
    keeper = Maintenance(core)
    while True:
        keeper.snapshot(lambda phase, done, of: None)
        time.sleep(0.05)


def child(directory: Path, round_number: int, dies_at: int) -> None:
    """Never returns by itself; `dies_at` 0 means that it is killed from outside."""
    core = direct.open_core(directory, index_segment_mb=1)
    assert core.is_writer
    say(f"ready {os.getpid()}")
    if dies_at:
        die_before_commit(core, dies_at)
    for writer in range(WRITERS):
        threading.Thread(target=keep_writing, args=(core, writer, round_number)).start()
    keep_snapshotting(core)


def main(directory: Path) -> None:
    """Forks a child for each line `<round> <dies_at>` and says when it is gone."""
    for line in sys.stdin:
        round_number, dies_at = map(int, line.split())
        pid = os.fork()
        if pid == 0:
            child(directory, round_number, dies_at)
        _, status = os.waitpid(pid, 0)
        say(f"gone {status}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
