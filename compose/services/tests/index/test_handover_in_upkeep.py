"""A new model's index takes over and goes back while both indexes promote, take snapshots and compact."""

import itertools
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from tests.index.instances import Instance, hand_over, wait_until
from tests.index.load import BASE, Load
from tests.index.stub_embedder import StubEmbedder
from tests.index.test_handover import Stage, stage

__all__ = ["stage"]

_BASE_ITEMS = 700
#: Small lists and segments, so that a few hundred items are trained, sealed and trimmed.
SETTINGS: dict[str, Any] = {
    "index_type": "IVFFlat",
    "index_nlist": 8,
    "index_segment_mb": 1,
    "index_snapshot_writes": 50,
    "index_snapshots_kept": 1,
}


@contextmanager
def upkeep(*instances: Instance) -> Iterator[list[str]]:
    """Asks every instance for all the long work there is, again and again; what failed."""
    stop, failed, done = threading.Event(), list[str](), list[str]()

    def ask(instance: Instance) -> None:
        for kind in itertools.cycle(("rebuild", "snapshot", "compact", "verify")):
            if stop.is_set():
                return
            transport = httpx.HTTPTransport(uds=str(instance.private_path))
            with httpx.Client(transport=transport, base_url="http://private", timeout=30) as client:
                answer = client.post(f"{BASE}/{kind}", json={})
            said = answer.json()
            wrong = kind == "verify" and answer.status_code == 200 and not said["result"]["ok"]
            # Where another one became the writer in the middle of it, it says so.
            moved = answer.status_code in (409, 503) and "writer" in said["message"]
            if wrong or (answer.status_code not in (200, 202) and not moved):
                failed.append(f"{instance.name} {kind}: {answer.status_code} {answer.text[:300]}")
            done.append(kind)

    threads = [threading.Thread(target=ask, args=(one,)) for one in instances]
    for thread in threads:
        thread.start()
    try:
        yield failed
        wait_until(lambda: len(done) > 4 * len(instances), "all of it was asked of everyone", 60)
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def fill(stage: Stage) -> None:
    """What both models' indexes are trained with."""
    items = [{"id": f"base{n}", "text": f"base{n}"} for n in range(_BASE_ITEMS)]
    assert stage.post("add", {"items": items}).status_code == 200


def serves_lists(instance: Instance) -> bool:
    """Whether its index is trained."""
    transport = httpx.HTTPTransport(uds=str(instance.private_path))
    with httpx.Client(transport=transport, base_url="http://private", timeout=20) as client:
        return bool(client.get(f"{BASE}/stats").json()["indexType"] == "IVFFlat")


def missed(stage: Stage, names: list[str]) -> list[str]:
    """Which of these a search for their own text, through every list, does not find first."""
    wrong = []
    for start in range(0, len(names), 200):
        part = names[start : start + 200]
        answer = stage.post("search", {"texts": part, "k": 1, "nprobe": 2048, "include": []})
        assert answer.status_code == 200, answer.text
        wrong += [
            name for name, hits in zip(part, answer.json()["results"], strict=True) if hits[0]["id"] != name
        ]
    return wrong


def whole(instance: Instance, key: str, count: int) -> bool:
    """Whether a generation has every item."""
    own = next(one for one in instance.standing()["generations"] if one["key"] == key)
    return bool((own["vectors"], own["missing"]) == (count, 0))


def test_a_new_model_takes_over_and_goes_back_while_both_indexes_are_rebuilt_and_compacted(
    stage: Stage, tmp_path: Path
) -> None:
    with (
        StubEmbedder(tmp_path / "one.sock", model="one", dimension=8) as one,
        StubEmbedder(tmp_path / "two.sock", model="two", dimension=6) as two,
    ):
        to_one = {"key": "one|8", "dimension": 8, "embedder": one.address}
        to_two = {"key": "two|6", "dimension": 6, "embedder": two.address}
        old = stage.start(
            "old-a", opened=True, index_generation="one|8", embedder_url=one.address, **SETTINGS
        )
        fill(stage)
        wait_until(lambda: serves_lists(old), "the old index is trained")
        with Load(stage.port, texts=True) as load:
            while old.private("POST", "generations/ensure", to_two)[1]["missing"] > 20:
                pass
            new = stage.start("new-b", index_generation="two|6", embedder_url=two.address, **SETTINGS)
            wait_until(lambda: serves_lists(new), "the follower trains its own")
            with upkeep(old, new) as failed:
                load.wait_for(len(load.acknowledged) + 30)
                hand_over(old, new, ensure=to_two)
                load.wait_for(len(load.acknowledged) + 30)
                hand_over(new, old, ensure=to_one)
                load.wait_for(len(load.acknowledged) + 30)
        assert load.failed == [] and failed == []
        names = [*load.acknowledged, *(f"base{n}" for n in range(_BASE_ITEMS))]
        assert whole(old, "one|8", len(names))
        assert missed(stage, names) == []
        wait_until(lambda: new.standing()["lag"] == 0, "the paused index follows")
        assert old.private("POST", "generations/ensure", to_two)[0] == 200
        wait_until(lambda: whole(new, "two|6", len(names)), "nothing lacks in the paused index")
        hand_over(old, new, ensure=to_two)
        assert missed(stage, names) == []
