"""What an index does with a directory or with settings it cannot use, and with a disk that is full."""

import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from gpuctl_serving.index.schema import APPLICATION_ID, DATABASE
from gpuctl_serving.index.service import create_service
from gpuctl_serving.index.settings import load_settings
from gpuctl_serving.kit.errors import LoadFailed
from gpuctl_serving.kit.settings import SettingsError
from tests.index.support import axis, index


def load(directory: Path, **env: str) -> None:
    """Loads an index that is expected not to."""
    create_service({"GPUCTL_INDEX_DIR": str(directory), **env}).load()


def filled(directory: Path, count: int = 200) -> Path:
    """A database with some content, closed; its path."""
    with index(directory) as made:
        made.add(*({"id": f"n{n}", "vector": [1.0, n, 0, 0], "text": "words " * 50} for n in range(count)))
    return directory / DATABASE


def test_a_database_that_is_no_database_is_named_with_a_way_out(tmp_path: Path) -> None:
    (tmp_path / DATABASE).write_bytes(b"this is not a database, it is a sentence" * 100)
    with pytest.raises(LoadFailed, match=r"index\.db is damaged .*restore a backup"):
        load(tmp_path)


def test_a_cut_off_write_ahead_log_loses_only_what_it_held(tmp_path: Path) -> None:
    filled(tmp_path, 5)
    (tmp_path / f"{DATABASE}-wal").write_bytes(os.urandom(5000))
    with index(tmp_path) as made:
        assert made.stats()["items"] == 5


def test_a_database_of_another_program_is_left_alone(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / DATABASE) as connection:
        connection.execute("CREATE TABLE theirs (x)")
    connection.close()
    with pytest.raises(LoadFailed, match="another program"):
        load(tmp_path)


def test_a_database_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    path = filled(tmp_path, 1)
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version=99")
    connection.close()
    with pytest.raises(LoadFailed, match="newer version"):
        load(tmp_path)
    assert APPLICATION_ID


def test_a_directory_that_cannot_be_one_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LoadFailed, match="GPUCTL_INDEX_DIR"):
        load(tmp_path / "file")
    with pytest.raises(LoadFailed, match="GPUCTL_INDEX_DIR"):
        load(Path("/proc/nowhere"))


@pytest.mark.parametrize(("m", "dimension"), [(10, 384), (28, 768), (96, 1024)])
def test_codes_that_no_gpu_takes_are_refused_on_cpu_hosts_too(tmp_path: Path, m: int, dimension: int) -> None:
    with pytest.raises(LoadFailed, match=f"GPUCTL_INDEX_PQ_M={m} cannot be used: .* set it to "):
        load(
            tmp_path,
            GPUCTL_INDEX_TYPE="ivfpq",
            GPUCTL_INDEX_PQ_M=str(m),
            GPUCTL_INDEX_DIMENSION=str(dimension),
        )


def test_settings_that_contradict_each_other_are_refused(tmp_path: Path) -> None:
    with pytest.raises(LoadFailed, match="contradicts"):
        load(tmp_path, GPUCTL_INDEX_DIMENSION="3", GPUCTL_INDEX_GENERATION="m||384")
    with pytest.raises(LoadFailed, match="is unknown"):
        load(tmp_path, GPUCTL_INDEX_TYPE="hnsw")
    with pytest.raises(LoadFailed, match="GPUCTL_EMBEDDER_URL"):
        load(tmp_path, GPUCTL_EMBEDDER_URL="ftp://x")
    with pytest.raises(SettingsError, match="GPUCTL_INDEX_DIR is not set"):
        create_service({})


def test_the_settings_of_other_faiss_services_are_accepted_and_each_is_accounted_for() -> None:
    settings, notes = load_settings(
        {
            "GPUCTL_INDEX_DIR": "/x",
            "FAISS_ENABLE_GPU": "true",
            "FAISS_GPU_ID": "0",
            "CUDA_VISIBLE_DEVICES": "0",
            "VECTOR_STORE_TYPE": "faiss",
            "VECTOR_STORE_DIMENSION": "768",
            "VECTOR_STORE_INDEX_TYPE": "IndexFlatL2",
            "VECTOR_STORE_BATCH_SIZE": "500",
            "GPU_MEMORY_LIMIT": "2G",
            "REDIS_PASSWORD": "correct horse",
            "LOG_LEVEL": "WARN",
        }
    )
    assert (settings.device, settings.index_dimension, settings.log_level) == ("cuda", 768, "warning")
    said = "\n".join(notes.aliases)
    for name in (
        "FAISS_ENABLE_GPU set GPUCTL_DEVICE=cuda",
        "FAISS_GPU_ID has no effect",
        "CUDA_VISIBLE_DEVICES has no effect",
        "VECTOR_STORE_TYPE has no effect",
        "VECTOR_STORE_DIMENSION set GPUCTL_INDEX_DIMENSION=768",
        "VECTOR_STORE_INDEX_TYPE set GPUCTL_INDEX_TYPE",
        "VECTOR_STORE_BATCH_SIZE has no effect",
        "GPU_MEMORY_LIMIT has no effect",
        "REDIS_PASSWORD has no effect",
        "LOG_LEVEL set GPUCTL_LOG_LEVEL=warning",
    ):
        assert name in said
    assert "horse" not in said


@pytest.mark.parametrize("kind", ["IndexIVFFlat", "IndexIVFPQ"])
def test_an_index_type_wished_by_another_products_variable_waits_for_enough_vectors_and_says_so(
    kind: str, tmp_path: Path
) -> None:
    with index(tmp_path, VECTOR_STORE_INDEX_TYPE=kind, VECTOR_STORE_DIMENSION="4") as wished:
        wished.add({"id": "a", "vector": axis(0)})
        info = wished.public.get("/info").json()
        assert info["indexType"] == "Flat"
        assert f"VECTOR_STORE_INDEX_TYPE set GPUCTL_INDEX_TYPE={kind}" in info["aliases"]
        said = wished.stats()["indexes"]["default"]
        needs = {"IndexIVFFlat": 312, "IndexIVFPQ": 9984}[kind]
        assert f"{kind.removeprefix('Index')} needs {needs} vectors to train" in said["reason"]
        assert said["reason"].endswith("there are 1")


def test_a_full_disk_is_a_507_that_acknowledges_nothing_and_passes_when_there_is_space(
    tmp_path: Path,
) -> None:
    with index(tmp_path) as made:
        made.add({"id": "before", "vector": axis(0)})
        connection = made.service.core.live.store.connection
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count={pages + 2}")
        body = {"items": [{"id": f"n{n}", "vector": axis(1), "text": "x" * 5000} for n in range(50)]}
        status, message = made.refused("add", body)
        assert status == 507 and "nothing of this request was stored" in message
        assert made.stats()["items"] == 1 and made.found(axis(1)) == ["before"]
        connection.execute("PRAGMA max_page_count=1000000")
        assert made.post("add", body)["added"] == 50


def test_one_write_that_does_not_fit_does_not_fail_its_neighbours(tmp_path: Path) -> None:
    with index(tmp_path) as made:
        made.add({"id": "before", "vector": axis(0)})
        connection = made.service.core.live.store.connection
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count={pages + 8}")
        answers: list[int] = []
        for size in (1, 400_000, 1):
            item = {"id": f"s{len(answers)}", "vector": axis(1), "text": "x" * size}
            answers.append(made.public.post("/api/v1/vector-store/add", json={"items": [item]}).status_code)
        assert answers == [200, 507, 200]


def test_a_second_plain_process_follows_read_only(tmp_path: Path) -> None:
    with index(tmp_path) as writer, index(tmp_path, "closed") as follower:
        writer.add({"id": "a", "vector": axis(0)})
        from tests.index.instances import wait_until

        wait_until(lambda: follower.stats()["vectors"] == 1, "the follower follows", 2)
        assert follower.found(axis(0)) == ["a"]
        assert follower.stats()["writer"] is False


def test_a_plain_server_process_keeps_what_it_acknowledged_over_sigkill(tmp_path: Path) -> None:
    import httpx

    from tests.index.instances import ROOT, public_socket, wait_until

    with public_socket() as free:
        port = free.getsockname()[1]
    env = {
        **os.environ,
        "PYTHONPATH": str(ROOT / "src"),
        "GPUCTL_INDEX_DIR": str(tmp_path),
        "GPUCTL_PORT": str(port),
    }
    base = f"http://127.0.0.1:{port}"

    def start() -> "subprocess.Popen[bytes]":
        child = subprocess.Popen(
            [sys.executable, "-m", "gpuctl_serving.index"], env=env, stdout=subprocess.DEVNULL
        )

        def ready() -> bool:
            assert child.poll() is None
            try:
                return httpx.get(f"{base}/health/ready").status_code == 200
            except httpx.TransportError:
                return False

        wait_until(ready, "the plain server is ready")
        return child

    child = start()
    try:
        body = {"items": [{"id": "a", "vector": [1, 0]}]}
        assert httpx.post(f"{base}/api/v1/vector-store/add", json=body).status_code == 200
        child.send_signal(signal.SIGKILL)
        child.wait()
        child = start()
        assert httpx.get(f"{base}/api/v1/vector-store/items/a").status_code == 200
        child.send_signal(signal.SIGTERM)
        assert child.wait(15) == 0
    finally:
        child.kill()
        child.wait()
