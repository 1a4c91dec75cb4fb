"""What an index must hold: every acknowledged change, and the one that was cut off whole or not at all."""

import random
import threading
from functools import cache
from types import TracebackType
from typing import Any

import httpx
import numpy as np
from tests.index.support import BASE

DIMENSION = 8
#: Of the type IVFFlat, with so many lists; the other namespace is too small for it.
LISTS, NLIST = "lists", 4
PLAIN = "plain"
COUNTS = {LISTS: 180, PLAIN: 24}
_K = 10
_QUERIES = 6

Key = tuple[str, str]
Value = tuple[str, int]


@cache
def vector_of(name: str, version: int) -> Any:
    """The unit vector of an item's version."""
    drawn = np.random.default_rng([version, *name.encode()]).standard_normal(DIMENSION)
    return (drawn / np.linalg.norm(drawn)).astype(np.float32)


def kind_of(version: int) -> int:
    """What filters ask for; it changes with every version."""
    return version % 3


def item(name: str, version: int) -> dict[str, Any]:
    """One item of an add."""
    return {
        "id": name,
        "vector": vector_of(name, version).tolist(),
        "text": f"{name} in version {version}",
        "metadata": {"version": version, "kind": kind_of(version)},
    }


class Model:
    """Key -> version of what is there; a key with a change under way may have either state."""

    def __init__(self, versions: dict[Key, int] | None = None) -> None:
        self.versions: dict[Key, int] = dict(versions or {})
        self.used: set[Key] = set(self.versions)
        #: (key, the state it would have); None: it would be gone.
        self.under_way: tuple[Key, int | None] | None = None

    def copy(self) -> "Model":
        """For one life of a process."""
        return Model(self.versions)

    def begins(self, key: Key, version: int | None) -> None:
        """A change is about to be sent."""
        self.used.add(key)
        self.under_way = (key, version)

    def acknowledged(self) -> None:
        """It was answered."""
        assert self.under_way is not None
        key, version = self.under_way
        if version is None:
            self.versions.pop(key, None)
        else:
            self.versions[key] = version
        self.under_way = None

    def compare(self, http: httpx.Client) -> None:
        """Items, vectors, counts and searches of a running index; whatever was under way is settled by it."""
        held: dict[Key, int] = {}
        for ns in COUNTS:
            held |= _held(http, ns, sorted(name for space, name in self.used if space == ns))
        if self.under_way is not None:
            key, version = self.under_way
            if held.get(key) == version:
                self.acknowledged()
            self.under_way = None
        assert held == self.versions, _difference(held, self.versions)
        said = http.get(f"{BASE}/stats").json()
        counts = {ns: sum(1 for space, _ in held if space == ns) for ns in COUNTS}
        assert said["namespaces"] == counts and said["vectors"] == len(held), (said["namespaces"], counts)
        for ns in COUNTS:
            for wanted in (None, 1):
                _compare_searches(http, ns, {n: v for (s, n), v in held.items() if s == ns}, wanted)


def _difference(held: dict[Key, int], expected: dict[Key, int]) -> list[tuple[Key, int | None, int | None]]:
    keys = sorted(held.keys() | expected.keys())
    return [(key, held.get(key), expected.get(key)) for key in keys if held.get(key) != expected.get(key)]


def _held(http: httpx.Client, ns: str, names: list[str]) -> dict[Key, int]:
    body = {"namespace": ns, "ids": names, "include": ["text", "metadata", "vector"]}
    answer = http.post(f"{BASE}/items/get", json=body)
    assert answer.status_code == 200, answer.text
    held: dict[Key, int] = {}
    for one in answer.json()["items"]:
        name, version = one["id"], one["metadata"]["version"]
        made = item(name, version)
        assert (one["text"], one["metadata"]) == (made["text"], made["metadata"]), one
        assert np.allclose(one["vector"], made["vector"], rtol=0, atol=1e-6), name
        held[ns, name] = version
    return held


def _compare_searches(http: httpx.Client, ns: str, held: dict[str, int], wanted: int | None) -> None:
    """Every list is looked at, so that an index of either type must find exactly the nearest."""
    names = [name for name, version in held.items() if wanted in (None, kind_of(version))]
    place = {name: at for at, name in enumerate(names)}
    rows = np.array([vector_of(name, held[name]) for name in names], np.float32)
    queries = np.array([vector_of(f"query{at}", 0) for at in range(_QUERIES)], np.float32)
    scores = queries @ rows.T
    body = {"namespace": ns, "vectors": queries.tolist(), "k": _K, "nprobe": NLIST, "include": []}
    answer = http.post(f"{BASE}/search", json=body | ({} if wanted is None else {"filter": {"kind": wanted}}))
    assert answer.status_code == 200, answer.text
    for found, true in zip(answer.json()["results"], scores, strict=True):
        assert len({hit["id"] for hit in found}) == len(found) == min(_K, len(names))
        # By score: of two that are equally near any order is right.
        best = np.sort(true)[::-1][: len(found)]
        own = [true[place[hit["id"]]] for hit in found]
        for scores_of in (own, [hit["score"] for hit in found]):
            assert np.allclose(scores_of, best, rtol=0, atol=1e-5), (ns, wanted, found)


class Writer:
    """A client that adds, replaces and deletes one item after the other until the index is gone."""

    def __init__(self, address: str, model: Model, seed: int) -> None:
        self._address, self._model = address, model
        self._chance = random.Random(seed)  # noqa: S311
        self._stop, self._enough = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._write)
        self.answered = 0
        self.refused = ""

    def __enter__(self) -> "Writer":
        self._thread.start()
        assert self._enough.wait(30), self.refused
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        assert not self.refused or kind is not None, self.refused

    def _write(self) -> None:
        with httpx.Client(base_url=self._address, timeout=60, verify=False) as http:  # noqa: S501
            while not self._stop.is_set():
                route, body = self._next()
                try:
                    answer = http.post(f"{BASE}/{route}", json=body)
                except httpx.TransportError:
                    return
                if answer.status_code != 200:
                    self.refused = answer.text
                    return
                self._model.acknowledged()
                self.answered += 1
                if self.answered == 3:
                    self._enough.set()
                self._stop.wait(0.001)

    def _next(self) -> tuple[str, dict[str, Any]]:
        ns = self._chance.choice((LISTS, PLAIN))
        drawn = self._chance.random()
        there = sorted(name for space, name in self._model.versions if space == ns)
        name = f"w{self.answered}" if drawn < 0.6 else self._chance.choice(there)
        if drawn > 0.85:
            self._model.begins((ns, name), None)
            return "delete", {"namespace": ns, "ids": [name]}
        version = self._model.versions.get((ns, name), 0) + 1
        self._model.begins((ns, name), version)
        return "add", {"namespace": ns, "items": [item(name, version)], "upsert": True}
