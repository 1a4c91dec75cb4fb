"""kill -9 at any instant loses nothing that was acknowledged."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from tests.index import direct

ROOT = Path(__file__).resolve().parents[2]
KILLS = 20


class Expected:
    """What the children said, as the state the index must be in."""

    def __init__(self) -> None:
        self.version: dict[str, int] = {}
        self.said = 0

    def hear(self, lines: list[str]) -> None:
        """Takes in one child's last words."""
        self.said += len(lines)
        for line in lines:
            what, name = line.split()
            if what == "deleting":
                # Asked for and maybe not acknowledged: either state is right until "deleted" is said.
                self.version.pop(name, None)
            else:
                self.version[name] = {"added": 1, "updated": 2, "deleted": 0}[what]

    def check(self, directory: Path) -> None:
        """Opens the index and compares."""
        core = direct.open_core(directory)
        try:
            with core.readers.snapshot() as snapshot:
                for name, version in self.version.items():
                    found = snapshot.document("default", name)
                    assert (found is not None) == (version > 0), name
                    # It may be one further than acknowledged: committed, and killed before it could say so.
                    assert found is None or found.metadata["v"] >= version, name
                stored = sum(snapshot.counts().values())
            assert (len(core.live.catalog) if core.live.catalog is not None else 0) == stored
        finally:
            direct.close(core)


def run(directory: Path, number: int, *, kill_after: float | None = None, dies_at: int = 0) -> list[str]:
    """What one child had acknowledged when it was killed."""
    env = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "tests.index.writing_child", str(directory), str(number), str(dies_at)]
    with subprocess.Popen(command, env=env, cwd=ROOT, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        if kill_after is not None:
            time.sleep(kill_after)
            os.kill(child.pid, signal.SIGKILL)
        said = child.stdout.read().decode()
        assert child.wait() == -signal.SIGKILL
    return said.splitlines()


def test_twenty_kills_at_random_instants_lose_no_acknowledged_write(tmp_path: Path) -> None:
    chance = np.random.default_rng(20261)
    expected = Expected()
    for number in range(KILLS):
        expected.hear(run(tmp_path, number, kill_after=float(chance.uniform(0.0, 0.2))))
    assert expected.said > KILLS
    expected.check(tmp_path)


def test_nothing_is_acknowledged_before_its_commit(tmp_path: Path) -> None:
    expected = Expected()
    for number, dies_at in enumerate((1, 2, 3, 20)):
        expected.hear(run(tmp_path, number, dies_at=dies_at))
    expected.check(tmp_path)
