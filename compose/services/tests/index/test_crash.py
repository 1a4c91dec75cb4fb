"""kill -9 at any instant loses nothing that was acknowledged."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.index import direct

ROOT = Path(__file__).resolve().parents[2]
KILLS = 20


def start(directory: Path, number: int) -> "subprocess.Popen[bytes]":
    env = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "tests.index.writing_child", str(directory), str(number)]
    return subprocess.Popen(command, env=env, cwd=ROOT, stdout=subprocess.PIPE)


def run_and_kill(directory: Path, number: int, random_instant: random.Random) -> list[str]:
    """What one child had acknowledged when it was killed."""
    child = start(directory, number)
    assert child.stdout is not None
    assert child.stdout.readline() == b"ready\n"
    time.sleep(random_instant.uniform(0.0, 0.25))
    os.kill(child.pid, signal.SIGKILL)
    said = child.stdout.read().decode()
    assert child.wait() == -signal.SIGKILL
    return said.splitlines()


def test_twenty_kills_at_random_instants_lose_no_acknowledged_write(tmp_path: Path) -> None:
    chance = random.Random(20261)  # noqa: S311  instants, not secrets
    present: dict[str, int] = {}
    unknown: set[str] = set()
    total = 0
    for number in range(KILLS):
        lines = run_and_kill(tmp_path, number, chance)
        total += len(lines)
        for line in lines:
            what, name = line.split()
            if what == "deleting":
                # Asked for and maybe not acknowledged: either state is right from here on.
                unknown.add(name)
                present.pop(name, None)
            elif what == "deleted":
                unknown.discard(name)
                present[name] = 0
            else:
                present[name] = 1 if what == "added" else 2
    assert total > KILLS
    core = direct.open_core(tmp_path)
    try:
        with core.readers.snapshot() as snapshot:
            for name, version in present.items():
                found = snapshot.document("default", name)
                assert (found is not None) == (version > 0), name
                # The version may be one further than acknowledged: committed, killed before it could say so.
                assert found is None or found.metadata["v"] >= version, name
            stored = sum(snapshot.counts().values())
        assert core.live.catalog is not None and len(core.live.catalog) == stored
    finally:
        direct.close(core)
