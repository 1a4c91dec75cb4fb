"""SIGKILL before every call of the snapshot that changes a file, while clients write."""

import os
import subprocess
import sys
from pathlib import Path

from gpuctl_serving.index.durable import manifest as manifests
from gpuctl_serving.index.maintenance import Maintenance
from tests.index import direct
from tests.index.durable import damage

ROOT = Path(__file__).resolve().parents[3]


def base_index(directory: Path) -> None:
    """With two snapshots and several segments, so that a third one has something to remove."""
    core = direct.open_core(directory)
    keeper = Maintenance(core)
    for start in (0, 10):
        damage.write(core, 10, start)
        assert core.live.journal is not None
        core.worker.call(core.live.journal._rotate).result(5)
        keeper.snapshot(lambda phase, done, of: None)
    damage.write(core, 5, 20)
    direct.close(core)


def run_children(
    base: Path, work: Path, first: int = 1, step: int = 1, program: tuple[str, ...] = ("snapshot_children",)
) -> list[tuple[int, int]]:
    """(n, status) of every child; the last one came through."""
    env = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", f"tests.index.durable.{program[0]}"]
    done = subprocess.run(
        [*command, str(base), str(work), str(first), str(step), *program[1:]],
        env=env,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    runs = [tuple(map(int, line.split())) for line in done.stdout.splitlines()]
    assert runs and runs[-1][1] == 0, (runs[-3:], done.stderr[-2000:])
    return [(at, status) for at, status in runs]


def check(directory: Path) -> None:
    """Everything acknowledged is there, from the database and again from the snapshots and the log alone."""
    acknowledged = directory.with_suffix(".acks").read_text().split()
    core = direct.open_core(directory)
    try:
        before = damage.content(core)
        assert before["total"] == before["vectors"] and set(acknowledged) <= before["documents"].keys()
        assert {f"n{n}" for n in range(25) if n % 5} <= before["documents"].keys()
    finally:
        direct.close(core)
    left = [one.name for one in (directory / manifests.FOLDER).iterdir() if one.name.startswith(".")]
    assert left == []
    for file in damage.database_files(directory):
        file.unlink()
    assert damage.content_of(directory) == before


def test_a_kill_before_any_call_of_a_snapshot_loses_nothing(tmp_path: Path) -> None:
    base_index(tmp_path / "base")
    runs = run_children(tmp_path / "base", tmp_path / "work")
    assert len(runs) > 50
    for at, _ in runs:
        check(tmp_path / "work" / f"n{at}")
