"""Health, info, statistics, metrics, headers and the proof tell one story of the GPU's copy."""

import os
import re
import signal
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import cycle
from pathlib import Path
from typing import Any

import httpx
import pytest

from gpuctl_serving.index.ann.replica.told import STATES, Told
from tests.index.ann.served import Served, served
from tests.index.ann.support import clustered
from tests.index.instances import ROOT, wait_until
from tests.index.support import BASE, in_base64, index

D = 16


@dataclass(frozen=True)
class Story:
    """What a teller says: of the copy, of the device that searches, and whether all is well."""

    state: str
    device: str
    reason: str | None
    status: str


@pytest.fixture
def mode(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file by which the stub of a card is told what to do."""
    file = tmp_path / "mode"
    monkeypatch.setenv("STUB_DEVICE_FILE", str(file))
    return file


def told(http: Served, *, newest_on: str | None = None) -> Story:
    """Every teller's story, which must be the same; asked again when the state moves meanwhile.

    `newest_on` is the device that finds the newest vector, where its namespace is not the largest.
    """
    for _ in range(10):
        before = http.get("/health").json()["replica"]
        try:
            return _told(http, newest_on)
        except AssertionError:
            if http.get("/health").json()["replica"]["since"] == before["since"]:
                raise
    raise AssertionError("the state never stands still")


def _still(replica: dict[str, Any]) -> dict[str, Any]:
    """Without the seconds that pass while one asks."""
    return {key: value for key, value in replica.items() if key != "retry_in_seconds"}


def _told(http: Served, newest_on: str | None) -> Story:
    health = http.get("/health")
    body = health.json()
    replica, info, stats = body["replica"], http.get("/info").json(), http.get(f"{BASE}/stats").json()
    story = Story(replica["state"], body["device"], body["device_reason"], body["status"])
    assert Story(info["replica"]["state"], info["device"], info["device_reason"], info["status"]) == story
    assert _still(info["replica"]) == _still(replica) and info["reason"] == body["reason"]
    assert stats["device"] == story.device
    assert {key: stats["replica"][key] for key in _still(replica)} == _still(replica)
    assert stats["gpu"] == {
        "inUse": story.state == "searching",
        "reason": None if story.state == "searching" else replica["detail"],
    }
    metrics = http.get("/metrics").text
    states = dict(re.findall(r'gpuctl_vector_replica_state\{state="(\w+)"\} ([\d.]+)', metrics))
    assert states == {state: "1.0" if state == story.state else "0.0" for state in STATES}
    assert re.findall(r'gpuctl_device_info\{[^}]*device="(\w+)"', metrics) == [story.device]
    assert f"gpuctl_vector_replica_ready {float(story.state == 'searching')}" in metrics
    assert health.headers["x-gpuctl-device"] == story.device
    assert health.headers.get("x-gpuctl-device-reason") == story.reason == replica["reason"]
    proof = http.proof()
    assert proof["canary"]["ok"] is True and proof["device"] == "cpu"
    assert _still(proof["replica"]) == _still(replica)
    on_card = (newest_on or story.device) == "cuda"
    assert proof["providers"] == (["faiss-cpu", "faiss-gpu"] if on_card else ["faiss-cpu"])
    assert (body["reason"] is None) == (story.reason is None)
    assert replica["state"] == "searching" or replica["detail"]
    assert story.device == ("cuda" if story.state == "searching" else "cpu")
    return story


def since(http: httpx.Client) -> datetime:
    return datetime.fromisoformat(http.get("/health").json()["replica"]["since"])


def fill(http: httpx.Client, count: int = 500, namespace: str = "default") -> None:
    items = [{"id": at, "vectorBase64": in_base64(row)} for at, row in enumerate(clustered(count, D))]
    body = {"items": items, "upsert": True, "namespace": namespace}
    assert http.post(f"{BASE}/add", json=body).status_code == 200


def reaches(http: httpx.Client, state: str) -> None:
    wait_until(lambda: http.get("/health").json()["replica"]["state"] == state, f"the copy is {state}")


def search(http: httpx.Client, namespace: str = "default") -> str:
    body = {"vector": clustered(1, D)[0].tolist(), "k": 1, "include": [], "namespace": namespace}
    device: str = http.post(f"{BASE}/search", json=body).headers["x-gpuctl-device"]
    return device


def kill(http: httpx.Client) -> None:
    os.kill(http.get(f"{BASE}/stats").json()["replica"]["pid"], signal.SIGKILL)


def faults(http: httpx.Client) -> dict[str, float]:
    """Those that were counted, by reason."""
    found = re.findall(
        r'gpuctl_vector_replica_faults_total\{reason="([\w-]+)"\} ([\d.]+)', http.get("/metrics").text
    )
    assert found
    return {reason: float(count) for reason, count in found if float(count)}


def detail(http: httpx.Client) -> str:
    said: str | None = http.get("/health").json()["replica"]["detail"]
    return said or ""


@pytest.mark.parametrize("wish", ["cuda", "auto"])
def test_the_story_of_a_copy_that_is_made_lost_and_made_again(
    package: Path, tmp_path: Path, mode: Path, wish: str
) -> None:
    with served(package, tmp_path, GPUCTL_DEVICE=wish) as http:
        reaches(http, "waiting")
        # What is too small for a card is searched where it is searched fastest: nothing is wrong.
        assert told(http) == Story("waiting", "cpu", None, "healthy")
        assert detail(http) == "the index is empty"
        fill(http, 50)
        wait_until(lambda: "GPUCTL_INDEX_REPLICA_FROM" in detail(http), "the device is open")
        assert told(http) == Story("waiting", "cpu", None, "healthy")
        assert search(http) == "cpu"
        began = datetime.now(UTC) - timedelta(milliseconds=1)
        fill(http)
        reaches(http, "searching")
        assert told(http) == Story("searching", "cuda", None, "healthy")
        first = since(http)
        assert began <= first <= datetime.now(UTC)
        time.sleep(0.5)
        assert since(http) == first and search(http) == "cuda"
        mode.write_text("absent")
        kill(http)
        wait_until(lambda: "FAISS sees no GPU" in detail(http), "the refusal")
        reaches(http, "failed")
        assert told(http) == Story("failed", "cpu", "load-failure", "degraded")
        assert "FAISS sees no GPU" in http.get("/health").json()["reason"]
        assert since(http) > first and search(http) == "cpu"
        # Nobody searched when it died: it is counted all the same, and so is each start that failed.
        assert faults(http)["replica-died"] == 1 and faults(http)["load-failure"] >= 1
        assert set(faults(http)) == {"replica-died", "load-failure"}
        mode.write_text("fine")
        reaches(http, "searching")
        assert told(http) == Story("searching", "cuda", None, "healthy")


def test_the_story_of_a_card_without_room(package: Path, tmp_path: Path, mode: Path) -> None:
    mode.write_text("no-room")
    with served(package, tmp_path) as http:
        fill(http)
        reaches(http, "failed")
        assert told(http) == Story("failed", "cpu", "out-of-memory", "degraded")
        assert 0 < http.get("/health").json()["replica"]["retry_in_seconds"] <= 30
        assert set(faults(http)) == {"out-of-memory"}
        # The process has the device; it is the copy that it lacks.
        assert http.get("/info").json()["replica"]["device"] == "cuda"


def test_the_story_of_a_copy_whose_searches_all_fail(package: Path, tmp_path: Path, mode: Path) -> None:
    with served(package, tmp_path) as http:
        fill(http)
        reaches(http, "searching")
        # Two may fail, and two again after one that did not.
        for _ in range(2):
            mode.write_text("oom")
            assert [search(http), search(http)] == ["cpu", "cpu"]
            mode.write_text("fine")
            assert search(http) == "cuda"
        assert told(http) == Story("searching", "cuda", None, "healthy")
        assert faults(http) == {"out-of-memory": 4}
        mode.write_text("oom")
        assert [search(http) for _ in range(20)] == ["cpu"] * 20
        assert told(http) == Story("failed", "cpu", "out-of-memory", "degraded")
        assert "3 searches of the copy failed in a row" in detail(http)
        assert 0 < http.get("/health").json()["replica"]["retry_in_seconds"] <= 30
        # After three of the twenty the card was not asked any more.
        assert faults(http) == {"out-of-memory": 7}


def test_the_story_of_a_small_namespace_on_the_card_and_the_largest_not(
    package: Path, tmp_path: Path, mode: Path
) -> None:
    mode.write_text("no-room-for 500")
    with served(package, tmp_path) as http:
        fill(http)
        reaches(http, "failed")
        fill(http, 150, "small")
        wait_until(lambda: search(http, "small") == "cuda", "the small one is on the card")
        assert search(http) == "cpu"
        story = Story("failed", "cpu", "out-of-memory", "degraded")
        assert told(http, newest_on="cuda") == story
        assert 0 < http.get("/health").json()["replica"]["retry_in_seconds"] <= 30


def test_the_story_of_the_largest_namespace_on_the_card_and_a_small_one_not(
    package: Path, tmp_path: Path, mode: Path
) -> None:
    mode.write_text("no-room-for 150")
    with served(package, tmp_path) as http:
        fill(http, 150, "small")
        reaches(http, "failed")
        fill(http)
        reaches(http, "searching")
        assert search(http) == "cuda" and search(http, "small") == "cpu"
        assert told(http) == Story("searching", "cuda", "out-of-memory", "degraded")
        assert 0 < http.get("/health").json()["replica"]["retry_in_seconds"] <= 30
        assert "out of memory" in http.get("/health").json()["reason"]


@pytest.mark.parametrize(
    ("setting", "value", "why"),
    [("GPUCTL_DEVICE", "cpu", "GPUCTL_DEVICE=cpu"), ("GPUCTL_REQUIRE", "cpu", "GPUCTL_REQUIRE=cpu")],
)
def test_the_story_of_an_index_that_is_to_leave_the_card_alone(
    package: Path, tmp_path: Path, setting: str, value: str, why: str
) -> None:
    with served(package, tmp_path, **{"GPUCTL_DEVICE": "auto", setting: value}) as http:
        fill(http)
        assert told(http) == Story("off", "cpu", None, "healthy")
        assert why in detail(http)


def test_the_story_where_no_gpu_can_be_used(tmp_path: Path) -> None:
    for wish, story in {
        "cuda": Story("off", "cpu", "provider-absent", "degraded"),
        "auto": Story("off", "cpu", None, "healthy"),
    }.items():
        (tmp_path / wish).mkdir()
        with served(ROOT / "src", tmp_path / wish, GPUCTL_DEVICE=wish) as http:
            assert told(http) == story
            assert "CPU build" in detail(http)


class Restless:
    """In the place of a keeper: another state whenever it is asked."""

    def __init__(self) -> None:
        fine, failed = Told("searching", "cuda"), Told("failed", None, "replica-died", "it ended", 1.0)
        self._states = cycle((fine.after(None), failed.after(None)))

    def told(self) -> Told:
        return next(self._states)

    def facts(self, told: Told) -> dict[str, Any]:
        return told.body()

    def stop(self) -> None:
        """There is nothing to end."""


def test_one_body_is_of_one_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with index(tmp_path) as served_here:
        monkeypatch.setattr(served_here.service.core, "replica", Restless())
        for _ in range(6):
            health, info = (served_here.public.get(path).json() for path in ("/health", "/info"))
            for body in (health, info):
                well = body["replica"]["state"] == "searching"
                assert body["device"] == ("cuda" if well else "cpu")
                assert body["status"] == ("healthy" if well else "degraded")
                assert body["device_reason"] == (None if well else "replica-died")
                assert (body["reason"] is None) == well
            stats = served_here.stats()
            assert stats["gpu"]["inUse"] == (stats["replica"]["state"] == "searching")
            assert stats["device"] == ("cuda" if stats["gpu"]["inUse"] else "cpu")
