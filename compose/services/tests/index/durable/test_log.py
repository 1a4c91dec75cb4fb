"""The append log and what a start makes of it."""

import os
import sqlite3
import time
from pathlib import Path

import pytest

from gpuctl_serving.index.durable import scan
from gpuctl_serving.index.durable.broken import LogBroken
from gpuctl_serving.index.durable.log import AppendLog, Policy
from gpuctl_serving.index.schema import DATABASE
from gpuctl_serving.kit.errors import LoadFailed, ServiceError
from tests.index import direct
from tests.index.durable import damage
from tests.index.instances import wait_until


def newest(directory: Path) -> scan.History:
    found = scan.history(scan.scan_all(directory))
    assert found is not None
    return found


def test_every_change_of_the_database_is_in_the_log_under_the_same_number(tmp_path: Path) -> None:
    damage.fill(tmp_path)
    with sqlite3.connect(tmp_path / DATABASE) as connection:
        (last,) = connection.execute("SELECT max(sequence) FROM log").fetchone()
        sequence, crc = connection.execute("SELECT sequence, crc FROM tail").fetchone()
    connection.close()
    found = newest(tmp_path)
    assert found.begins and found.last == last == sequence and found.crc_at(last) == crc


def test_a_database_that_is_gone_is_made_again_from_the_log(tmp_path: Path) -> None:
    damage.fill(tmp_path)
    before = damage.content_of(tmp_path)
    for file in damage.database_files(tmp_path):
        file.unlink()
    core = direct.open_core(tmp_path)
    assert damage.content(core) == before
    assert core.place.report.did == "rebuilt" and core.place.report.rebuilt_from == "the beginning"
    assert direct.add(core, [direct.item("later", [1, 1, 1])]) == (1, 0)
    direct.close(core)


def test_what_the_log_has_and_the_database_lacks_is_replayed(tmp_path: Path) -> None:
    damage.fill(tmp_path / "i", 10)
    damage.copied(tmp_path / "i", tmp_path / "old")
    damage.fill(tmp_path / "i", 10, 10)
    before = damage.content_of(tmp_path / "i")
    for file in damage.database_files(tmp_path / "i"):
        file.unlink()
    (tmp_path / "old" / DATABASE).rename(tmp_path / "i" / DATABASE)
    core = direct.open_core(tmp_path / "i")
    assert damage.content(core) == before
    assert core.place.report.did == "replayed" and core.place.report.replayed >= 10
    direct.close(core)


def test_a_torn_tail_is_cut_and_said(tmp_path: Path) -> None:
    damage.fill(tmp_path)
    before = damage.content_of(tmp_path)
    with damage.segments(tmp_path)[-1].open("ab") as file:
        file.write(b"\x99\0\0\0half a record")
    core = direct.open_core(tmp_path)
    assert damage.content(core) == before
    assert any("cut off the log" in line for line in core.place.report.said)
    direct.close(core)
    assert newest(tmp_path).trouble is None


def test_segments_end_and_the_next_continues_them(tmp_path: Path) -> None:
    core = direct.open_core(tmp_path)
    assert core.live.journal is not None
    core.live.journal._policy = Policy(segment_bytes=1000)
    damage.write(core, 40)
    before = damage.content(core)
    direct.close(core)
    assert len(damage.segments(tmp_path)) > 3
    assert newest(tmp_path).begins and newest(tmp_path).trouble is None
    for file in damage.database_files(tmp_path):
        file.unlink()
    assert damage.content_of(tmp_path) == before


def test_a_log_that_is_gone_or_damaged_while_the_database_is_whole_begins_anew_and_says_so(
    tmp_path: Path,
) -> None:
    damage.fill(tmp_path / "i")
    before = damage.content_of(tmp_path / "i")
    gone = damage.copied(tmp_path / "i", tmp_path / "gone")
    for segment in damage.segments(gone):
        segment.unlink()
    torn = damage.copied(tmp_path / "i", tmp_path / "torn")
    segment = damage.segments(torn)[-1]
    damage.flip(segment, [segment.stat().st_size * 4])
    for directory in (gone, torn):
        core = direct.open_core(directory)
        assert damage.content(core) == before
        assert core.place.report.did == "continued" and core.place.report.wants_snapshot
        damage.write(core, 5, 100)
        after = damage.content(core)
        direct.close(core)
        assert damage.content_of(directory) == after
    assert list((torn / "damaged").rglob("*.log"))


def test_a_hole_in_the_log_that_the_database_cannot_fill_is_never_skipped(tmp_path: Path) -> None:
    damage.fill(tmp_path / "i", 10)
    old = damage.copied(tmp_path / "i", tmp_path / "old")
    damage.fill(tmp_path / "i", 20, 10)
    segment = damage.segments(tmp_path / "i")[-1]
    before = damage.segments(old)[-1].stat().st_size
    damage.flip(segment, [(before + segment.stat().st_size) * 4])
    for file in damage.database_files(tmp_path / "i"):
        file.unlink()
    (old / DATABASE).rename(tmp_path / "i" / DATABASE)
    with pytest.raises(LoadFailed, match=r"damaged .*rebuild --index-dir .* --accept-loss"):
        direct.open_core(tmp_path / "i")


def test_a_log_of_another_database_is_not_mixed_with_this_one(tmp_path: Path) -> None:
    damage.fill(tmp_path / "one", 5)
    damage.fill(tmp_path / "two", 5)
    (tmp_path / "one" / DATABASE).replace(tmp_path / "two" / DATABASE)
    with pytest.raises(LoadFailed, match="log of another database"):
        direct.open_core(tmp_path / "two")


def test_an_index_of_a_release_without_a_log_is_adopted_and_can_go_back_and_forth(tmp_path: Path) -> None:
    damage.fill(tmp_path, 10)
    before = damage.content_of(tmp_path)
    as_an_earlier_release_left_it(tmp_path)
    core = direct.open_core(tmp_path)
    assert core.place.report.did == "adopted" and core.place.report.wants_snapshot
    assert damage.content(core) == before
    damage.write(core, 10, 50)
    direct.close(core)
    with sqlite3.connect(tmp_path / DATABASE) as connection:
        # What the earlier release does for an upsert, after a rollback to it.
        (item,) = connection.execute("SELECT item FROM items WHERE id = 'n51'").fetchone()
        at = connection.execute("INSERT INTO log (op, item) VALUES ('put', ?)", (item,)).lastrowid
        connection.execute(
            "UPDATE items SET text = 'by the old one', sequence = ? WHERE item = ?", (at, item)
        )
        vector = direct.unit_vector([0, 0, 1]).tobytes()
        connection.execute(
            "INSERT OR REPLACE INTO vectors (gen, item, sequence, vector) VALUES (1, ?, ?, ?)",
            (item, at, vector),
        )
    connection.close()
    core = direct.open_core(tmp_path)
    assert core.place.report.did == "continued"
    assert direct.search(core, [0, 0, 1], 1) == [("n51", 1.0)]
    direct.close(core)
    assert direct.open_core(tmp_path).place.report.did == "nothing"


def as_an_earlier_release_left_it(directory: Path) -> None:
    """Takes away everything the log brought."""
    with sqlite3.connect(directory / DATABASE) as connection:
        connection.executescript(
            "DROP TABLE tail; ALTER TABLE items DROP COLUMN crc; ALTER TABLE vectors DROP COLUMN crc;"
        )
    connection.close()
    for segment in damage.segments(directory):
        segment.unlink()
    (directory / "log").rmdir()


def test_a_commit_the_database_refuses_is_taken_out_of_the_log_again(tmp_path: Path) -> None:
    core = direct.open_core(tmp_path)
    damage.write(core, 3)
    size = damage.segments(tmp_path)[-1].stat().st_size
    core.live.store.connection = RefusesCommit(core.live.store.connection)  # type: ignore[assignment]
    with pytest.raises(ServiceError, match="nothing of this request was"):
        direct.add(core, [direct.item("refused", [1, 0, 0])])
    assert damage.segments(tmp_path)[-1].stat().st_size == size
    core.live.store.connection = core.live.store.connection.real  # type: ignore[attr-defined]
    assert direct.add(core, [direct.item("taken", [1, 0, 0])]) == (1, 0)
    before = damage.content(core)
    direct.close(core)
    assert damage.content_of(tmp_path) == before


class RefusesCommit:
    """A database connection whose disk is full when it commits."""

    def __init__(self, real: sqlite3.Connection) -> None:
        self.real = real

    def execute(self, sql: str, *more: object) -> sqlite3.Cursor:
        if sql == "COMMIT":
            raise sqlite3.OperationalError("database or disk is full")
        return self.real.execute(sql, *more)  # type: ignore[arg-type]

    @property
    def in_transaction(self) -> bool:
        return self.real.in_transaction


def test_a_log_that_cannot_be_synced_stops_the_writer_with_a_clear_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    core = direct.open_core(tmp_path)
    damage.write(core, 3)
    journal = core.live.journal
    assert isinstance(journal, AppendLog)

    def fails(_: int) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr("os.fdatasync", fails)
        with pytest.raises(ServiceError, match=r"cannot be relied on .*restart the index"):
            direct.add(core, [direct.item("unsure", [1, 0, 0])])
    with pytest.raises(ServiceError, match="cannot be relied on"):
        direct.add(core, [direct.item("after", [1, 0, 0])])
    assert journal.broken and direct.search(core, [1, 1, 1], 1)
    with pytest.raises(LogBroken):
        journal.check()
    direct.close(core)
    assert direct.open_core(tmp_path).place.report.did in ("nothing", "replayed")


def test_with_an_interval_the_disk_is_asked_seldom_and_soon_after_the_last_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[float] = []
    real = os.fdatasync

    def counted(handle: int) -> None:
        synced.append(time.monotonic())
        real(handle)

    monkeypatch.setattr("os.fdatasync", counted)
    core = direct.open_core(tmp_path, index_fsync="interval", index_fsync_ms=50)
    damage.write(core, 30)
    written = core.live.commits
    wait_until(lambda: core.live.journal is not None and not core.live.journal.waits_for_sync, "it is synced")
    assert 0 < len(synced) < written
    before = damage.content(core)
    direct.close(core)
    assert damage.content_of(tmp_path) == before


def test_what_a_power_cut_left_of_unsynced_records_is_cut_and_kept_aside(
    tmp_path: Path,
) -> None:
    core = direct.open_core(tmp_path / "i", index_fsync="interval")
    damage.write(core, 10)
    old = damage.copied(tmp_path / "i", tmp_path / "old")
    damage.write(core, 10, 10)
    direct.close(core)
    segment = damage.segments(tmp_path / "i")[-1]
    hole = damage.segments(old)[-1].stat().st_size
    damage.flip(segment, [(hole + 200) * 8])
    for file in damage.database_files(tmp_path / "i"):
        file.unlink()
    for file in damage.database_files(old):
        file.rename(tmp_path / "i" / file.name)
    core = direct.open_core(tmp_path / "i")
    assert damage.content(core)["documents"].keys() == {f"n{n}" for n in range(10) if n % 5}
    assert core.place.report.moved_aside and "cut off the log" in core.place.report.said[0]
    direct.close(core)


@pytest.mark.parametrize("size", [0, 20, 64])
def test_a_segment_whose_making_was_interrupted_does_not_break_the_log(tmp_path: Path, size: int) -> None:
    damage.fill(tmp_path, 10)
    (tmp_path / "log" / "00000002.log").write_bytes(bytes(size))
    core = direct.open_core(tmp_path)
    assert core.place.report.did == "nothing" and core.live.journal is not None
    core.worker.call(core.live.journal._rotate).result(5)
    damage.write(core, 10, 10)
    before = damage.content(core)
    direct.close(core)
    for file in damage.database_files(tmp_path):
        file.unlink()
    assert damage.content_of(tmp_path) == before
