"""A process that writes until it is killed, and says after each acknowledgement what was acknowledged."""

import itertools
import os
import signal
import sys
import threading
import time
from pathlib import Path

from gpuctl_serving.index.core import Core
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


def main(directory: Path, round_number: int, dies_at: int) -> None:
    """Never returns by itself; `dies_at` 0 means that it is killed from outside."""
    core = direct.open_core(directory)
    assert core.is_writer
    say("ready")
    if dies_at:
        die_before_commit(core, dies_at)
    threads = [
        threading.Thread(target=keep_writing, args=(core, writer, round_number)) for writer in range(WRITERS)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
