"""The GPU's copy, with a CPU's clone in its place: the same answers, whatever breaks meanwhile."""

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gpuctl_serving.index.ann.replica.copies import copy_file
from gpuctl_serving.index.ann.replica.link import ReplicaFailed, ReplicaLink
from gpuctl_serving.index.ann.replica.records import Drop
from tests.index.ann.rig import D, Rig
from tests.index.ann.served import served
from tests.index.ann.support import clustered
from tests.index.durable.test_full_disks import files_end_at
from tests.index.instances import wait_until
from tests.index.support import BASE, in_base64


@pytest.mark.parametrize(
    ("mode", "reason"), [("die", "replica-died"), ("hang", "replica-hung"), ("oom", "out-of-memory")]
)
def test_a_device_that_fails_in_a_search_is_answered_for_by_the_cpu_and_comes_back(
    flat: Rig, mode: str, reason: str
) -> None:
    flat.keeper.start()
    flat.cloned()
    pid = flat.keeper.pid
    flat.mode.write_text(mode)
    began = time.monotonic()
    assert flat.same(clustered(4, D, seed=7)) == "cpu"
    assert time.monotonic() - began < 5
    assert flat.faults[0] == reason
    flat.mode.write_text("fine")
    flat.cloned()
    # Out of memory leaves FAISS's index usable: the process stays.
    assert (flat.keeper.pid == pid) == (mode == "oom")
    # The search has told of it: the keeper, who finds the process gone, does not count it again.
    assert flat.faults == [reason]


def test_a_search_that_waits_too_long_for_its_turn_is_the_cpus_and_ends_nothing(flat: Rig) -> None:
    flat.keeper.start()
    flat.cloned()
    link, delta = flat.keeper._link, flat.catalog.delta(1)
    assert link is not None and delta is not None
    pid, queries = flat.keeper.pid, clustered(4, D, seed=7)
    flat.mode.write_text("slow")
    flat.keeper.policy = replace(flat.keeper.policy, search_seconds=0.2)
    with ThreadPoolExecutor(5) as threads:
        # Of other shapes: each is a call of its own, slow but in its time.
        front = [threads.submit(link.search, (1, delta.clone), queries, k, 0, 5.0) for k in (18, 19)]
        time.sleep(0.1)
        late = [threads.submit(flat.same, queries, k) for k in (3, 4, 5)]
        assert [one.result() for one in late] == ["cpu"] * 3
        assert [one.result().shape for one in front] == [(4, 18), (4, 19)]
    # Those who had gone are not asked for: slow as it is, each would be too long for its own time.
    link.load(Drop(99))
    flat.mode.write_text("fine")
    flat.keeper.policy = replace(flat.keeper.policy, search_seconds=5.0)
    # Three such in a row are no reason to give the copy up.
    assert flat.same(queries) == "cuda" and flat.keeper.pid == pid
    assert flat.faults == ["replica-busy"] * 3 and flat.keeper.told().state == "searching"


def test_a_search_behind_a_copy_being_loaded_does_not_end_it(flat: Rig) -> None:
    flat.keeper.start()
    flat.cloned()
    link, delta, pid = flat.keeper._link, flat.catalog.delta(1), flat.keeper.pid
    assert link is not None and delta is not None
    flat.mode.write_text("slow")
    flat.catalog.apply(flat.truth.put(range(20_001, 20_601), clustered(600, D, seed=9)))
    wait_until(lambda: flat.keeper._cloning, "the second copy is loaded")
    # It looked before the loading began, and asks after.
    with pytest.raises(ReplicaFailed, match="neither its turn") as failed:
        link.search((1, delta.clone), clustered(1, D), 10, 0, 0.1)
    assert failed.value.reason == "replica-busy"
    flat.mode.write_text("fine")
    wait_until(lambda: flat.keeper.clones == 2, "the second copy")
    flat.cloned()
    assert flat.keeper.pid == pid and flat.faults == []


def test_a_process_that_is_stopped_reads_no_large_batch_and_is_replaced(flat: Rig) -> None:
    flat.keeper.start()
    flat.cloned()
    pid = flat.keeper.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    # More than a socket holds: nobody reads, so it cannot even be sent.
    assert flat.same(clustered(8000, D, seed=7)) == "cpu"
    assert flat.faults == ["replica-hung"]
    flat.cloned()
    assert flat.keeper.pid != pid and flat.faults == ["replica-hung"]


def test_whatever_the_thread_that_asks_fails_with_the_process_is_replaced(
    flat: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def strange(record: Any, seconds: float | None = None) -> None:
        raise MemoryError("not what a socket should raise")

    flat.keeper.start()
    flat.cloned()
    link = flat.keeper._link
    assert link is not None
    monkeypatch.setattr(link._wire, "send", strange)
    assert flat.same(clustered(4, D, seed=7)) == "cpu"
    flat.cloned()
    assert flat.keeper.pid != link.pid and flat.faults == ["replica-died"]
    assert "should raise" in str(link.ended)


class Mute(ReplicaLink):
    """Its thread is gone before it said anything."""

    def run(self) -> None:
        """Nobody is asked."""


def test_a_thread_that_is_gone_without_a_word_is_replaced(
    flat: Rig, package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    links = iter([Mute(1, package)])
    monkeypatch.setattr(
        flat.keeper, "_start_link", lambda temp_mib: next(links, None) or ReplicaLink(temp_mib, package)
    )
    flat.keeper.start()
    flat.cloned()
    assert flat.faults == ["replica-died"]


def test_a_copy_that_is_given_up_leaves_the_card_and_is_made_again_later(
    flat: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gpuctl_serving.index.ann.replica.keeper._REFUSED_PAUSE", 1.0)
    flat.keeper.start()
    flat.cloned()
    pid = flat.keeper.pid
    flat.mode.write_text("oom")
    assert [flat.same(clustered(2, D, seed=7)) for _ in range(4)] == ["cpu"] * 4
    assert flat.faults == ["out-of-memory"] * 3 and flat.keeper.told().state == "failed"
    wait_until(lambda: flat.catalog.delta(1) is None, "its delta is ended")
    flat.mode.write_text("fine")
    flat.cloned()
    assert flat.keeper.clones == 2 and flat.keeper.pid == pid
    told = flat.keeper.told()
    assert (told.state, told.reason, flat.keeper.failure) == ("searching", None, None)


def test_a_device_without_room_or_without_a_driver_is_said_and_searches_go_on(flat: Rig) -> None:
    flat.mode.write_text("no-room")
    flat.keeper.start()
    wait_until(lambda: flat.keeper.failure, "the refusal")
    assert "out-of-memory" in (flat.keeper.failure or "")
    assert flat.same(clustered(2, D)) == "cpu"
    flat.keeper.stop()


def test_a_process_that_cannot_open_its_device_is_tried_again_later(flat: Rig) -> None:
    flat.mode.write_text("absent")
    flat.keeper.start()
    wait_until(lambda: flat.keeper.failure, "the refusal")
    assert "FAISS sees no GPU" in (flat.keeper.failure or "") and flat.device() == "cpu"
    flat.mode.write_text("fine")
    flat.cloned()


def test_a_copy_that_finds_no_room_costs_nothing_but_the_copy(
    flat: Rig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    flat.keeper.start()
    flat.cloned()
    monkeypatch.setattr("gpuctl_serving.index.ann.replica.keeper._REFUSED_PAUSE", 0.4)
    with files_end_at(20_000):
        flat.catalog.apply(flat.truth.put(range(20_001, 20_601), clustered(600, D, seed=9)))
        wait_until(lambda: flat.keeper.failure, "the refusal")
        assert "copy-failure" in str(flat.keeper.failure) and "File too large" in str(flat.keeper.failure)
        # The copy before it and what changed since are searched on, and the disk is left alone for a while.
        assert flat.same(clustered(4, D, seed=7)) == "cuda" and flat.keeper.facts()["lag"] == 600
        assert not list(tmp_path.glob("replica-*"))
        tried = len(flat.faults)
        time.sleep(0.3)
        assert len(flat.faults) <= tried + 1 and set(flat.faults) == {"copy-failure"}
    wait_until(lambda: flat.keeper.clones == 2 and flat.keeper.facts()["lag"] == 0, "the next try")
    assert flat.keeper.failure is None and flat.same(clustered(4, D, seed=7)) == "cuda"


def test_a_start_removes_a_killed_ones_copy_and_not_one_in_use_beside_it(flat: Rig, tmp_path: Path) -> None:
    left = tmp_path / "replica-left.faiss"
    left.write_bytes(b"half an index")
    with copy_file(tmp_path) as used:
        flat.keeper.start()
        flat.cloned()
        assert used.exists() and not left.exists()


def test_nothing_ends_the_thread_that_keeps_the_copy(flat: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    def strange(delta: Any) -> bool:
        raise AssertionError("not what a catalog should raise")

    with monkeypatch.context() as patched:
        patched.setattr(flat.catalog, "delta", strange)
        flat.keeper.start()
        wait_until(lambda: "should raise" in str(flat.keeper.failure), "it is said")
        assert flat.device() == "cpu"
    flat.cloned()


def test_a_service_says_which_device_answered_and_survives_its_death(package: Path, tmp_path: Path) -> None:
    with served(package, tmp_path) as http:

        def stats() -> dict[str, Any]:
            body: dict[str, Any] = http.get(f"{BASE}/stats").json()
            return body

        rows = clustered(500, D)
        items = [{"id": at, "vectorBase64": in_base64(row)} for at, row in enumerate(rows)]
        assert http.post(f"{BASE}/add", json={"items": items}).status_code == 200
        wait_until(lambda: stats()["gpu"]["inUse"], "the copy")
        body = {"vector": rows[3].tolist(), "k": 1, "include": []}
        answer = http.post(f"{BASE}/search", json=body)
        assert answer.json()["device"] == answer.headers["x-gpuctl-device"] == "cuda"
        assert answer.json()["results"] == [[{"id": 3, "score": 1.0}]]
        assert "gpuctl_vector_replica_ready 1.0" in http.get("/metrics").text
        pid = stats()["replica"]["pid"]
        os.kill(pid, signal.SIGKILL)
        for _ in range(20):
            answer = http.post(f"{BASE}/search", json=body)
            assert answer.status_code == 200 and answer.json()["results"] == [[{"id": 3, "score": 1.0}]]
        wait_until(lambda: stats()["gpu"]["inUse"] and stats()["replica"]["pid"] != pid, "the next copy")
