"""A disk that takes no more: refused with a reason, nothing half done, and it passes when there is room."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gpuctl_serving.index.core import Core
from gpuctl_serving.index.durable import manifest as manifests
from gpuctl_serving.index.durable.snapshot import SnapshotFailed
from gpuctl_serving.index.maintenance import Maintenance
from gpuctl_serving.kit.errors import LoadFailed, ServiceError
from tests.index import direct
from tests.index.durable import damage


@contextmanager
def files_end_at(size: int) -> Iterator[None]:
    """No file of this process grows beyond a size, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def fill_until_refused(core: Core, text: str) -> tuple[list[str], ServiceError]:
    """What was acknowledged, and the refusal."""
    taken: list[str] = []
    for number in range(10_000):
        item = direct.item(f"full{number}", [1.0, number, 1], {"kind": 0, "text": text})
        try:
            direct.add(core, [item])
        except ServiceError as refused:
            return taken, refused
        taken.append(item.id)
    raise AssertionError("the disk never filled")


def checkpoint(core: Core) -> None:
    """On the writer's own thread: its connection may be in the middle of something."""
    core.live.store.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


@pytest.mark.parametrize("first", ["the log", "the write-ahead log of the database"])
def test_whichever_file_finds_no_room_first_nothing_is_half_done(tmp_path: Path, first: str) -> None:
    core = direct.open_core(tmp_path)
    damage.write(core, 10)
    if first == "the log":
        # A log that is larger than anything the database writes.
        for number in range(40):
            direct.add(
                core, [direct.item(f"large{number}", [1, 1, number], {"kind": 1, "text": "x" * 30_000})]
            )
            core.worker.call(lambda: checkpoint(core)).result(10)
    limit = damage.segments(tmp_path)[-1].stat().st_size + 4000
    before = damage.content(core)
    with files_end_at(limit if first == "the log" else (tmp_path / "index.db-wal").stat().st_size + 40_000):
        taken, refused = fill_until_refused(core, "y" * 500)
        assert refused.status in (507, 503) and "nothing" in refused.message
        assert direct.search(core, [1.0, 2, 1], 1)
    documents = damage.content(core)["documents"]
    assert documents.keys() == before["documents"].keys() | set(taken)
    assert direct.add(core, [direct.item("after", [1, 0, 0], {"kind": 2})]) == (1, 0)
    after = damage.content(core)
    direct.close(core)
    assert damage.content_of(tmp_path) == after
    for file in damage.database_files(tmp_path):
        file.unlink()
    assert damage.content_of(tmp_path) == after


def test_a_snapshot_without_room_leaves_nothing_behind(tmp_path: Path) -> None:
    core = direct.open_core(tmp_path)
    damage.write(core, 20)
    keeper = Maintenance(core)
    with files_end_at(10_000), pytest.raises(SnapshotFailed, match=r"No snapshot was made"):
        keeper.snapshot(lambda phase, done, of: None)
    assert list((tmp_path / manifests.FOLDER).iterdir()) == []
    assert keeper.snapshot(lambda phase, done, of: None)["items"] == 16
    direct.close(core)


def test_a_start_that_has_no_room_to_make_the_database_again_says_so_and_takes_none(tmp_path: Path) -> None:
    damage.fill(tmp_path, 20)
    expected = damage.content_of(tmp_path)
    for file in damage.database_files(tmp_path):
        file.unlink()
    for size in (3_000, 30_000):
        with files_end_at(size), pytest.raises(LoadFailed, match=r"cannot be (written|used)|is full"):
            direct.open_core(tmp_path)
        assert sorted(one.name for one in tmp_path.iterdir()) == ["log", "writer.lock"]
    core = direct.open_core(tmp_path)
    assert damage.content(core) == expected and core.place.report.did == "rebuilt"
    direct.close(core)
