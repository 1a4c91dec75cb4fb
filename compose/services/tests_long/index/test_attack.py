"""Every route at once while the index changes its type, and SIGKILL in the middle of that."""

import contextlib
import random
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.index.support import BASE, in_base64

from tests_long.index.attackers import Attack
from tests_long.index.service import IndexProcess
from tests_long.index.world import World, vector_of

KILLS = 40
#: Namespaces become IVFFlat, and IVFPQ where there are enough to train its codes.
IVF_FROM, PQ_FROM, NEVER = 1_000, 10_500, 10**9
START = 11_500
_BATCH = 2000
_SAMPLES = 200


def attacked(directory: Path, pq_from: int, before: Sequence[str] = ()) -> IndexProcess:
    """The service with low thresholds and small segments, a snapshot every 2000 changes."""
    program = ("tests_long.index.low_thresholds", str(IVF_FROM), str(pq_from))
    return IndexProcess(
        directory,
        program,
        before,
        GPUCTL_INDEX_GENERATION="attack|16",
        GPUCTL_INDEX_SEGMENT_MB="1",
        GPUCTL_INDEX_SNAPSHOT_WRITES="2000",
        GPUCTL_MAX_ITEMS="2048",
    )


def fill(index: IndexProcess, world: World) -> None:
    """The first items."""
    for first in range(0, START, _BATCH):
        versions = world.next_versions(list(range(first, min(first + _BATCH, START))), there=True)
        items = [world.item(number, version) for number, version in versions.items()]
        assert index.http.post(f"{BASE}/add", json={"items": items}).status_code == 200
        world.acknowledged(versions)


def stored(index: IndexProcess, world: World) -> dict[int, int]:
    """Id -> version of everything the index holds; its vector is that of the version."""
    found: dict[int, int] = {}
    numbers = sorted(world.fates)
    for first in range(0, len(numbers), _BATCH):
        body = {"ids": numbers[first : first + _BATCH], "include": ["metadata", "vector"]}
        answer = index.http.post(f"{BASE}/items/get", json=body)
        assert answer.status_code == 200, answer.text
        for item in answer.json()["items"]:
            number, version = item["id"], item["metadata"]["v"]
            found[number] = version
            assert item["vector"] == pytest.approx(vector_of(number, version).tolist(), abs=1e-5), number
    return found


def check(index: IndexProcess, world: World, chance: random.Random) -> None:
    """What is stored, what is counted and what is found are the world's."""
    assert world.settle(stored(index, world)) == []
    there = world.there
    said = index.stats()
    assert said["items"] == said["vectors"] == len(there)
    assert said["indexes"]["default"]["vectors"] == len(there)
    picked = chance.sample(there, _SAMPLES)
    for number in picked:
        query = in_base64(vector_of(number, world.fates[number].sure))
        # By codes of two bytes an item may not be among the first sixty; it is among the thousand of k=100.
        for more in ({"k": 1, "filter": {"n": number}}, {"k": 100, "nprobe": 2048}):
            body = {"vectorBase64": query, **more}
            [hits] = index.http.post(f"{BASE}/search", json=body).json()["results"]
            assert hits[0]["id"] == number and hits[0]["score"] == pytest.approx(1, abs=1e-5), more


def verified(index: IndexProcess) -> Any:
    """The findings of `verify`."""
    body = index.http.post(f"{BASE}/verify", json={}).json()
    while body["state"] in ("waiting", "running"):
        body = index.http.get(f"{BASE}/jobs/{body['job']}").json()
    return body["result"]["findings"]


def until_promoting(index: IndexProcess, seconds: float) -> str:
    """Waits for a promotion to run, at most so long; its type and phase, or what there is instead."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        said = index.stats()
        if running := said["promotion"]["running"]:
            return f"{running['to']} {running['phase']}"
        time.sleep(0.01)
    return "idle"


def test_every_route_at_once_while_types_change_loses_nothing_and_says_nothing_wrong(tmp_path: Path) -> None:
    world, chance = World(), random.Random(5)  # noqa: S311  repeatable
    types: Counter[str] = Counter()
    for at, pq_from in enumerate((NEVER, PQ_FROM, NEVER, PQ_FROM)):
        with attacked(tmp_path, pq_from) as index:
            if at == 0:
                fill(index, world)
            with Attack(index.port, world, at) as attack:
                until = time.monotonic() + 20
                while time.monotonic() < until and not attack.wrong:
                    time.sleep(0.2)
                    types[index.stats()["indexes"]["default"]["type"]] += 1
            assert attack.wrong == []
            check(index, world, chance)
            assert verified(index) == []
            promotion = index.stats()["promotion"]
            assert promotion["done"] and not promotion["failed"], promotion
            print(types, dict(attack.done), promotion)
    assert types["IVFFlat"] and types["IVFPQ"]


def test_kills_in_the_middle_of_promotions_lose_nothing_acknowledged(tmp_path: Path) -> None:
    world, chance = World(), random.Random(6)  # noqa: S311  repeatable
    killed_in: Counter[str] = Counter()
    for number in range(KILLS):
        with attacked(tmp_path, chance.choice((NEVER, PQ_FROM))) as index:
            if number == 0:
                fill(index, world)
            else:
                check(index, world, chance)
            with Attack(index.port, world, 1000 + number) as attack:
                until_promoting(index, 3)
                time.sleep(chance.uniform(0, 1.5))
                attack.killing.set()
                with contextlib.suppress(httpx.HTTPError):
                    killed_in[until_promoting(index, 0.3)] += 1
                index.kill()
            assert attack.wrong == [], number
    print(killed_in)
    with attacked(tmp_path, NEVER) as index:
        check(index, world, chance)
        assert verified(index) == []
