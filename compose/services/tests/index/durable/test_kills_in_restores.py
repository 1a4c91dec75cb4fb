"""SIGKILL before every call of a restore that changes a file: a start serves the old index or the backup."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from gpuctl_serving.index.durable import restore as restores
from gpuctl_serving.index.durable.log import Policy
from gpuctl_serving.index.durable.recovery import Place
from gpuctl_serving.index.durable.report import Report
from gpuctl_serving.index.lock import Holder, WriterLock
from gpuctl_serving.index.maintenance import Maintenance
from gpuctl_serving.index.upkeep import backup
from gpuctl_serving.kit.errors import LoadFailed
from tests.index import direct
from tests.index.durable import damage
from tests.index.durable.test_kills_in_snapshots import run_children

MARK = restores.MARK


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """An index with a snapshot and a log, and beside it a backup of what it was before."""
    directory = tmp_path / "base"
    core = direct.open_core(directory)
    keeper = Maintenance(core)
    damage.write(core, 10)
    backup(keeper.source(), tmp_path / "backup", lambda phase, done, of: None)
    damage.write(core, 10, 10)
    keeper.snapshot(lambda phase, done, of: None)
    damage.write(core, 5, 20)
    direct.close(core)
    return directory


def restored(directory: Path, source: Path) -> None:
    """Restores, as the tool does."""
    lock = WriterLock(directory, Holder("tool", 1))
    assert lock.try_take()
    try:
        restores.restore(Place(directory, Policy(), Report()), source, generation="", other_model=False)
    finally:
        lock.close()


def contents(base: Path, source: Path, work: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """(what the index held, what the backup holds)"""
    shutil.copytree(base, work / "old")
    shutil.copytree(base, work / "new")
    restored(work / "new", source)
    return damage.content_of(work / "old"), damage.content_of(work / "new")


def serves(directory: Path) -> tuple[dict[str, Any], list[str]]:
    """What a start serves and says; it takes writes, and nothing is left of the restore."""
    core = direct.open_core(directory)
    try:
        held, said = damage.content(core), list(core.place.report.said)
        direct.add(core, [direct.item("after", [1, 2, 3], {"kind": 0})])
    finally:
        direct.close(core)
    assert [one.name for one in directory.iterdir() if one.name.startswith(".") or one.name == MARK] == []
    core = direct.open_core(directory)
    assert "after" in damage.content(core)["documents"]
    direct.close(core)
    return held, said


def test_a_kill_before_any_call_of_a_restore_leaves_the_old_index_or_the_new_one(
    base: Path, tmp_path: Path
) -> None:
    source, work = tmp_path / "backup", tmp_path / "work"
    old, new = contents(base, source, tmp_path)
    assert old != new
    runs = run_children(base, work, program=("restore_children", str(source)))
    marked, outcomes = [], []
    for at, _ in runs:
        directory = work / f"n{at}"
        interrupted = (directory / MARK).exists()
        left = [one.name for one in directory.iterdir() if one.name.startswith(".")]
        if interrupted:
            marked.append(at)
            shutil.copytree(directory, tmp_path / "marked" / f"n{at}")
        held, said = serves(directory)
        assert held in (old, new), at
        assert not interrupted or (held == old and "A restore was interrupted" in said[0]), (at, said)
        assert {f"What an interrupted restore left ({one}) was removed." for one in left} == set(
            said[interrupted:]
        )
        outcomes.append(held == new)
    assert marked and outcomes[-1] and not outcomes[0]
    # The start that undoes it may be killed too.
    for at in (marked[1], marked[len(marked) // 2], marked[-1]):
        undone = run_children(
            tmp_path / "marked" / f"n{at}", tmp_path / f"again{at}", program=("restore_children", "")
        )
        for n, _ in undone:
            assert serves(tmp_path / f"again{at}" / f"n{n}")[0] == old, (at, n)


def test_a_restore_that_fails_half_way_puts_back_what_was_there(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, _ = contents(base, tmp_path / "backup", tmp_path)

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(restores, "begin_line", full)
    with pytest.raises(restores.RestoreRefused, match="No space left"):
        restored(base, tmp_path / "backup")
    assert serves(base)[0] == old


def test_a_restore_is_refused_while_anybody_reads_and_an_instance_does_not_follow_one_under_way(
    base: Path, tmp_path: Path
) -> None:
    lock = WriterLock(base, Holder("other", 1))
    assert lock.try_take()
    follower = direct.open_core(base)
    assert not follower.is_writer
    lock.close()
    with pytest.raises(restores.RestoreRefused, match="Another process reads"):
        restored(base, tmp_path / "backup")
    direct.close(follower)
    (base / MARK).write_text("{}")
    held = WriterLock(base, Holder("other", 1))
    assert held.try_take()
    with pytest.raises(LoadFailed, match="under way"):
        direct.open_core(base)
    held.close()
