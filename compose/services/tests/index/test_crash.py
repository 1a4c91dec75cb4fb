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
KILLS = 15


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


class Children:
    """Children that write to one index, one after another."""

    def __init__(self, directory: Path) -> None:
        env = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}", "OMP_NUM_THREADS": "1"}
        self._nursery = subprocess.Popen(
            [sys.executable, "-m", "tests.index.writing_child", str(directory)],
            env=env,
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> "Children":
        return self

    def __exit__(self, *_: object) -> None:
        self._nursery.communicate()

    def run(self, number: int, *, kill_after: float | None = None, dies_at: int = 0) -> list[str]:
        """What one child had acknowledged when it was killed."""
        assert self._nursery.stdin is not None and self._nursery.stdout is not None
        self._nursery.stdin.write(f"{number} {dies_at}\n")
        self._nursery.stdin.flush()
        ready, pid = self._nursery.stdout.readline().split()
        assert ready == "ready"
        if kill_after is not None:
            time.sleep(kill_after)
            os.kill(int(pid), signal.SIGKILL)
        said: list[str] = []
        for line in self._nursery.stdout:
            if line.startswith("gone"):
                assert int(line.split()[1]) == signal.SIGKILL, line
                return said
            said.append(line)
        raise AssertionError("the children's parent is gone")


def kill_at_random(directory: Path, kills: int, seed: int) -> Expected:
    """Starts and kills that often; what was said, checked at the end, and again without the database."""
    chance = np.random.default_rng(seed)
    expected = Expected()
    with Children(directory) as children:
        for number in range(kills):
            expected.hear(children.run(number, kill_after=float(chance.uniform(0.0, 0.25))))
    expected.check(directory)
    for file in directory.glob("index.db*"):
        file.unlink()
    expected.check(directory)
    return expected


def test_kills_at_random_instants_lose_no_acknowledged_write(tmp_path: Path) -> None:
    assert kill_at_random(tmp_path, KILLS, 20261).said > KILLS
    assert list((tmp_path / "snapshots").iterdir())


def test_nothing_is_acknowledged_before_its_commit(tmp_path: Path) -> None:
    expected = Expected()
    with Children(tmp_path) as children:
        for number, dies_at in enumerate((1, 2, 3, 20)):
            expected.hear(children.run(number, dies_at=dies_at))
    expected.check(tmp_path)
