"""Clients of every route at once, each of which checks what it is told against the world."""

import random
import threading
from collections import Counter
from collections.abc import Callable
from types import TracebackType
from typing import Any

import httpx
import numpy as np
from tests.index.support import BASE, in_base64

from tests_long.index.world import COLOURS, DIMENSION, World, colour_of, vector_of

#: Each writes ids of its own; most of them are there at any time.
WRITERS, IDS = 3, 16_000
#: Answers that are no error of the index: too many jobs wait, or an id is there already.
_REFUSALS = {409, 429}
#: And on a full disk: of a change, and of a job that could not be done.
_NO_ROOM = {503, 507}
_NEED_ROOM = {"add", "delete", "snapshot", "compact", "backup"}
_CLOSE = 2e-5


class Attack:
    """Writers, searchers and a busybody between `with` and its end; `wrong` has what was wrong."""

    def __init__(self, port: int, world: World, seed: int) -> None:
        self._port, self._world, self._seed = port, world, seed
        self._stop = threading.Event()
        #: A kill comes: what cannot be reached is not wrong.
        self.killing = threading.Event()
        #: The disk may be full: changes and copies may be refused, answers may not.
        self.full = threading.Event()
        self.wrong: list[str] = []
        self.done: Counter[str] = Counter()
        jobs: list[Callable[[httpx.Client, random.Random], None]] = [self._search, self._search, self._bother]
        jobs += [self._writer(number) for number in range(WRITERS)]
        self._threads = [
            threading.Thread(target=self._run, args=(job, seed * 100 + at)) for at, job in enumerate(jobs)
        ]

    def __enter__(self) -> "Attack":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _run(self, job: Callable[[httpx.Client, random.Random], None], seed: int) -> None:
        chance = random.Random(seed)  # noqa: S311  repeatable
        with httpx.Client(base_url=f"http://127.0.0.1:{self._port}", timeout=60) as client:
            while not self._stop.is_set():
                try:
                    job(client, chance)
                except httpx.HTTPError as failure:
                    if self.killing.is_set():
                        return
                    self.wrong.append(f"{job}: {type(failure).__name__} {failure}")
                    return

    def _ask(self, client: httpx.Client, route: str, body: Any = None) -> Any:
        """The answer of a 200 or 202; None when it was refused. Anything else is wrong."""
        return self._asked(client, route, body)[1]

    def _asked(self, client: httpx.Client, route: str, body: Any = None) -> tuple[int, Any]:
        method = "GET" if body is None else "POST"
        answer = client.request(method, f"{BASE}/{route}", json=body)
        name = route.split("?")[0].split("/")[0]
        self.done[name] += 1
        if answer.status_code in (200, 202):
            return answer.status_code, answer.json() if "json" in answer.headers["content-type"] else {}
        no_room = self.full.is_set() and name in _NEED_ROOM and answer.status_code in _NO_ROOM
        self.done[f"{name} {answer.status_code}"] += 1
        if answer.status_code not in _REFUSALS and not no_room and not self.killing.is_set():
            self.wrong.append(f"{route}: {answer.status_code} {answer.text[:300]}")
        return answer.status_code, None

    def _change(self, client: httpx.Client, route: str, body: Any, versions: dict[int, int]) -> bool:
        """Whether it was acknowledged; the world is told."""
        status, found = self._asked(client, route, body)
        if found is not None:
            self._world.acknowledged(versions)
        elif status == 507:
            self._world.refused(versions)
        return found is not None

    # -- writing

    def _writer(self, writer: int) -> Callable[[httpx.Client, random.Random], None]:
        def write(client: httpx.Client, chance: random.Random) -> None:
            mine = list(range(writer, IDS, WRITERS))
            numbers = chance.sample(mine, chance.choice((1, 1, 5, 60)))
            if chance.random() < 0.1:
                self._delete(client, numbers)
            else:
                self._upsert(client, numbers, chance)

        return write

    def _upsert(self, client: httpx.Client, numbers: list[int], chance: random.Random) -> None:
        world = self._world
        versions = world.next_versions(numbers, there=True)
        items = [world.item(number, version) for number, version in versions.items()]
        if not self._change(client, "add", {"items": items, "upsert": True}, versions):
            return
        number = chance.choice(numbers)
        query = in_base64(vector_of(number, versions[number]))
        # A filter of one match is answered exactly, whatever the index's type.
        found = self._ask(client, "search", {"vectorBase64": query, "k": 1, "filter": {"n": number}})
        hits = found["results"][0] if found else None
        if hits is not None and (not hits or abs(hits[0]["score"] - 1) > _CLOSE):
            self.wrong.append(f"{number}: acknowledged in version {versions[number]}, found {hits}")
        again = self._ask(client, "add", {"items": items[:1]})
        if again is not None:
            self.wrong.append(f"{numbers[0]}: was added twice without upsert")

    def _delete(self, client: httpx.Client, numbers: list[int]) -> None:
        versions = self._world.next_versions(numbers, there=False)
        if not self._change(client, "delete", {"ids": numbers}, versions):
            return
        found = self._ask(client, "items/get", {"ids": numbers})
        if found is not None and found["items"]:
            self.wrong.append(f"{numbers}: deleted, and there is {found['items'][:2]}")

    # -- searching

    def _search(self, client: httpx.Client, chance: random.Random) -> None:
        query = np.random.default_rng(chance.randrange(1 << 30)).standard_normal(DIMENSION)
        query = query / np.linalg.norm(query)
        body: dict[str, Any] = {"vector": query.tolist(), "k": chance.choice((1, 10, 100))}
        colour = chance.choice(COLOURS) if chance.random() < 0.5 else None
        if colour:
            body["filter"] = {"colour": colour}
        if chance.random() < 0.3:
            body["nprobe"] = chance.choice((1, 16, 2048))
        floor = self._world.floor()
        found = self._ask(client, "search", body)
        if found is None:
            return
        hits = found["results"][0]
        for hit in hits:
            if said := self._amiss(hit, query, floor, colour):
                self.wrong.append(f"search of {colour}: {said}")
        order = [(-hit["score"], hit["id"]) for hit in hits]
        if order != sorted(order) or len({hit["id"] for hit in hits}) != len(hits):
            self.wrong.append(f"search: out of order or twice: {order}")

    def _amiss(self, hit: dict[str, Any], query: Any, floor: dict[int, int], colour: str | None) -> str:
        """What is wrong with a hit: every part of it must be of a version that was there meanwhile."""
        number, version = hit["id"], hit["metadata"]["v"]
        first, last = floor.get(number, 0), self._world.ceiling(number)
        if not first <= version <= last or hit["text"] != f"{number} in version {version}":
            return f"{number} has {hit['text']!r}, version {version}; allowed {first} to {last}"
        if colour and hit["metadata"]["colour"] != colour:
            return f"{number} is {hit['metadata']['colour']}"
        possible = [one for one in range(first, last + 1) if one % 2]
        if all(abs(float(vector_of(number, one) @ query) - hit["score"]) > _CLOSE for one in possible):
            return f"{number} scores {hit['score']}, not as any of {possible}"
        if hit["metadata"]["colour"] != colour_of(number, version):
            return f"{number}: metadata of two moments"
        return ""

    # -- everything else

    def _bother(self, client: httpx.Client, chance: random.Random) -> None:
        """One of the other routes."""
        route = chance.choice(
            ("snapshot", "compact", "rebuild", "verify", "stats", "backup", "jobs", "items/lookup",
             "items/values", "items")
        )  # fmt: skip
        if route in ("stats", "backup", "jobs"):
            self._ask(client, route)
        elif route == "items/lookup":
            self._ask(client, route, {"filter": {"colour": chance.choice(COLOURS)}})
        elif route == "items/values":
            found = self._ask(client, route, {"key": "colour"})
            if found and not set(found["values"]) <= set(COLOURS):
                self.wrong.append(f"values: {found}")
        elif route == "items":
            self._item(client, chance.randrange(IDS))
        else:
            found = self._ask(client, route, {})
            if route == "verify" and found and found["state"] == "done" and not found["result"]["ok"]:
                self.wrong.append(f"verify: {found['result']['findings']}")
            if found and found["state"] == "failed" and not self.full.is_set():
                self.wrong.append(f"{route}: {found}")

    def _item(self, client: httpx.Client, number: int) -> None:
        floor = self._world.floor().get(number, 0)
        answer = client.get(f"{BASE}/items/{number}")
        if answer.status_code == 404:
            return
        self.done["item"] += 1
        version = answer.json()["metadata"]["v"]
        if not floor <= version <= self._world.ceiling(number):
            self.wrong.append(f"item {number}: version {version}, acknowledged {floor}")
