"""Snapshots, what is made from them, and the jobs around them."""

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from gpuctl_serving.index import tool
from gpuctl_serving.index.durable import manifest as manifests
from gpuctl_serving.index.maintenance import Maintenance
from gpuctl_serving.kit.errors import LoadFailed
from tests.index import direct
from tests.index.durable import damage
from tests.index.instances import wait_until
from tests.index.support import axis, index


def quiet(phase: str, done: int, of: int) -> None:
    """Nobody watches."""


def snapshot(directory: Path) -> Path:
    """Makes one; its folder."""
    core = direct.open_core(directory)
    try:
        made = Maintenance(core).snapshot(quiet)
        return directory / manifests.FOLDER / str(made["snapshot"])
    finally:
        direct.close(core)


def run_tool(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, Any]:
    """Exit status and document of the offline tool."""
    status = tool.main(list(arguments))
    return status, json.loads(capsys.readouterr().out)


def test_a_snapshot_and_the_log_behind_it_make_the_database_again(tmp_path: Path) -> None:
    damage.fill(tmp_path, 20)
    first = snapshot(tmp_path)
    damage.fill(tmp_path, 20, 20)
    before = damage.content_of(tmp_path)
    for file in damage.database_files(tmp_path):
        file.write_bytes(b"rubbish" * 3000)
    core = direct.open_core(tmp_path)
    assert damage.content(core) == before
    assert core.place.report.rebuilt_from == f"snapshot {first.name}" and core.place.report.replayed > 20
    assert len(core.place.report.moved_aside) == 1
    direct.close(core)
    assert list((tmp_path / "damaged").rglob("index.db"))


def test_the_log_before_the_oldest_kept_snapshot_is_removed(tmp_path: Path) -> None:
    core = direct.open_core(tmp_path)
    assert core.live.journal is not None
    keeper = Maintenance(core)
    for start in range(0, 60, 15):
        damage.write(core, 15, start)
        core.worker.call(core.live.journal._rotate).result(5)
        keeper.snapshot(quiet)
    assert len(manifests.snapshots(tmp_path)) == 2
    assert len(damage.segments(tmp_path)) <= 3
    before = damage.content(core)
    direct.close(core)
    for file in damage.database_files(tmp_path):
        file.unlink()
    assert damage.content_of(tmp_path) == before


def test_a_damaged_snapshot_is_passed_over_for_the_one_before_it(tmp_path: Path) -> None:
    damage.fill(tmp_path, 20)
    first = snapshot(tmp_path)
    damage.fill(tmp_path, 20, 20)
    second = snapshot(tmp_path)
    before = damage.content_of(tmp_path)
    damage.flip(second / "index.db", [50_000])
    for file in damage.database_files(tmp_path):
        file.unlink()
    core = direct.open_core(tmp_path)
    assert damage.content(core) == before
    assert core.place.report.rebuilt_from == f"snapshot {first.name}"
    assert any(second.name in line for line in core.place.report.said)
    direct.close(core)


def test_a_start_begins_from_the_saved_index_and_a_wrong_one_is_refused(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    damage.fill(tmp_path, 20)
    made = snapshot(tmp_path)
    damage.fill(tmp_path, 10, 20)
    before = damage.content_of(tmp_path)
    with caplog.at_level("INFO"):
        assert damage.content_of(tmp_path) == before
    assert "saved-index-loaded" in caplog.messages
    caplog.clear()
    faiss = next(path for path in (made / "faiss").iterdir() if path.stat().st_size > 200)
    damage.flip(faiss, [faiss.stat().st_size * 4])
    with caplog.at_level("INFO"):
        assert damage.content_of(tmp_path) == before
    assert "snapshot-invalid" in caplog.messages and "saved-index-loaded" not in caplog.messages


def test_a_snapshot_of_a_damaged_database_is_refused(tmp_path: Path) -> None:
    damage.fill(tmp_path, 20)
    core = direct.open_core(tmp_path)
    core.live.store.connection.execute("UPDATE items SET text = 'flipped' WHERE id = 'n3'")
    from gpuctl_serving.index.durable.snapshot import SnapshotFailed

    with pytest.raises(SnapshotFailed, match="database is damaged"):
        Maintenance(core).snapshot(quiet)
    assert manifests.snapshots(tmp_path) == []
    direct.close(core)


def test_the_routes_answer_results_and_jobs_and_statistics_know_the_age(tmp_path: Path) -> None:
    with index(tmp_path) as made:
        made.add({"id": "a", "vector": axis(0)}, {"id": "b", "vector": axis(1)})
        answer = made.post("snapshot", {})
        assert answer["state"] == "done" and answer["result"]["items"] == 2
        durable = made.stats()["durability"]
        assert durable["snapshot"]["sequence"] == 2 and durable["state"] == "writing"
        assert durable["recovery"]["did"] == "created"
        verified = made.post("verify", {})["result"]
        assert verified["ok"] and verified["recall"] == 1.0 and verified["items"] == 2
        made.post("delete", {"ids": ["a"]})
        assert made.post("compact", {})["result"]["bytesAfter"] > 0
        assert made.post("rebuild", {})["result"] == {"namespaces": 1, "vectors": 1}
        assert made.found(axis(1)) == ["b"]
        started = made.public.post("/api/v1/vector-store/snapshot", json={"wait": False})
        assert started.status_code == 202
        job = f"/api/v1/vector-store/jobs/{started.json()['job']}"
        wait_until(lambda: made.public.get(job).json()["state"] == "done", "the job is done")
        assert made.public.get("/api/v1/vector-store/jobs/none").status_code == 404
        assert 0 <= made.stats()["durability"]["snapshot"]["ageSeconds"] < 60
        assert "gpuctl_vector_snapshot_age_seconds 0.0\n" not in made.public.get("/metrics").text


def test_snapshots_are_made_by_the_number_of_writes(tmp_path: Path) -> None:
    with index(tmp_path, index_snapshot_writes=3) as made:
        made.add(*({"id": f"n{n}", "vector": axis(n % 4)} for n in range(3)))
        wait_until(lambda: made.stats()["durability"]["snapshot"], "a snapshot is made")
        assert made.stats()["durability"]["snapshot"]["sequence"] == 3


def test_a_follower_passes_snapshots_on_and_verifies_itself(tmp_path: Path) -> None:
    with index(tmp_path) as writer, index(tmp_path, "closed") as follower:
        writer.add({"id": "a", "vector": axis(0)})
        assert follower.refused("snapshot", {})[0] == 409
        assert follower.post("verify", {})["result"]["ok"]
        assert follower.stats()["durability"]["state"] == "follower"


def test_a_backup_is_streamed_and_restored_elsewhere(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with index(tmp_path / "one") as made:
        made.add(*({"id": f"n{n}", "vector": [1, n, 0, 0], "text": f"text {n}"} for n in range(50)))
        answer = made.public.get("/api/v1/vector-store/backup")
        assert answer.status_code == 200 and answer.headers["content-type"] == "application/x-tar"
        expected = made.found([1, 3, 0, 0])
    with tarfile.open(fileobj=io.BytesIO(answer.content)) as members:
        assert members.getnames()[0] == "manifest.json"
    (tmp_path / "backup.tar").write_bytes(answer.content)
    status, said = run_tool(
        capsys, "restore", "--index-dir", str(tmp_path / "two"), "--from", str(tmp_path / "backup.tar")
    )
    assert status == 0 and said["items"] == 50, said
    with index(tmp_path / "two") as back:
        assert back.found([1, 3, 0, 0]) == expected
        assert back.stats()["durability"]["recovery"]["did"] == "nothing"


def test_a_backup_directory_is_written_restored_and_the_replaced_index_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "backup"
    with index(tmp_path / "i") as made:
        made.add({"id": "old", "vector": axis(0)})
        status, answer = made.control("backup", {"directory": str(target)})
        assert status == 200 and answer["result"]["items"] == 1
        assert made.control("backup", {"directory": str(target)})[0] == 422
        assert made.control("backup", {"directory": "here"})[0] == 422
        made.add({"id": "new", "vector": axis(1)})
        status, said = run_tool(capsys, "restore", "--index-dir", str(tmp_path / "i"), "--from", str(target))
        assert status == 1 and "is in use" in said["error"]
    status, said = run_tool(capsys, "restore", "--index-dir", str(tmp_path / "i"), "--from", str(target))
    assert status == 0 and len(said["movedAside"]) == 1
    with index(tmp_path / "i") as back:
        assert back.found(axis(0)) == ["old"] and back.stats()["items"] == 1
        back.add({"id": "more", "vector": axis(2)})
    assert run_tool(capsys, "verify", "--index-dir", str(tmp_path / "i"))[0] == 0


def test_a_restore_refuses_another_model_a_damaged_backup_and_a_stranger(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "backup"
    with index(tmp_path / "i", index_generation="one|4") as made:
        made.add({"id": "a", "vector": axis(0)})
        assert made.control("backup", {"directory": str(target)})[0] == 200
    with index(tmp_path / "other", index_generation="two|3") as made:
        made.add({"id": "b", "vector": [1, 0, 0]})
    arguments = ["restore", "--index-dir", str(tmp_path / "other"), "--from", str(target)]
    status, said = run_tool(capsys, *arguments)
    assert status == 1 and "one|4" in said["error"] and "two|3" in said["error"]
    assert damage.database_files(tmp_path / "other")
    assert run_tool(capsys, *arguments, "--other-model")[0] == 0
    damage.flip(target / "index.db", [30_000])
    status, said = run_tool(capsys, "restore", "--index-dir", str(tmp_path / "x"), "--from", str(target))
    assert status == 1 and "does not have its hash" in said["error"]
    evil = tmp_path / "evil.tar"
    with tarfile.open(evil, "w") as archive:
        archive.addfile(tarfile.TarInfo("../escaped"), io.BytesIO(b""))
    status, said = run_tool(capsys, "restore", "--index-dir", str(tmp_path / "x"), "--from", str(evil))
    assert status == 1 and "has no place" in said["error"] and not (tmp_path / "escaped").exists()


def test_an_interrupted_restore_of_which_nothing_is_known_is_not_served_until_it_is_run_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damage.fill(tmp_path / "i", 3)
    assert run_tool(capsys, "backup", "--index-dir", str(tmp_path / "i"), "--to", str(tmp_path / "b"))[0] == 0
    (tmp_path / "i" / "RESTORING").touch()
    with pytest.raises(LoadFailed, match="Run it again"):
        direct.open_core(tmp_path / "i")
    again = ["restore", "--index-dir", str(tmp_path / "i"), "--from", str(tmp_path / "b")]
    assert run_tool(capsys, *again)[0] == 0
    direct.close(direct.open_core(tmp_path / "i"))


def test_the_tool_rebuilds_with_loss_only_when_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damage.fill(tmp_path, 20)
    segment = damage.segments(tmp_path)[-1]
    damage.flip(segment, [segment.stat().st_size * 4])
    for file in damage.database_files(tmp_path):
        file.unlink()
    with pytest.raises(LoadFailed, match=r"both damaged .* --accept-loss"):
        direct.open_core(tmp_path)
    assert run_tool(capsys, "rebuild", "--index-dir", str(tmp_path))[0] == 1
    status, said = run_tool(capsys, "rebuild", "--index-dir", str(tmp_path), "--accept-loss")
    assert status == 0 and said["recovery"]["did"] == "rebuilt", said
    core = direct.open_core(tmp_path)
    assert 0 < damage.content(core)["total"] < 20
    direct.close(core)
