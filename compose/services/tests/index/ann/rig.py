"""A catalog whose namespace has a copy on a stub of a card, and what both answer."""

from functools import partial
from pathlib import Path

import pytest

from gpuctl_serving.index.ann.near import Effort
from gpuctl_serving.index.ann.plan import FLAT, Plan
from gpuctl_serving.index.ann.replica.keeper import ReplicaKeeper
from gpuctl_serving.index.ann.replica.link import ReplicaLink
from gpuctl_serving.index.ann.replica.policy import ReplicaPolicy
from gpuctl_serving.index.ann.training import build
from gpuctl_serving.index.catalog import Catalog
from gpuctl_serving.index.vectors import Vectors
from tests.index.ann.support import DictTruth, clustered, unhurried
from tests.index.instances import wait_until

D = 16


class Rig:
    """A catalog with its truth, and a keeper over a stub device."""

    def __init__(self, directory: Path, package: Path, plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
        self.mode = directory / "mode"
        monkeypatch.setenv("STUB_DEVICE_FILE", str(self.mode))
        self.truth = DictTruth(D)
        self.catalog = Catalog(D, self.truth)
        count = 10_400 if plan.kind == "IVFPQ" else 3000
        self.catalog.apply(self.truth.put(range(1, count + 1), clustered(count, D)))
        if plan != FLAT:
            self.catalog.begin_rebuild(1)
            self.catalog.swap(1, build(self.truth, 1, plan, count, D, unhurried()))
        self.plain = Effort(nprobe=8)
        policy = ReplicaPolicy(smallest=100, writes=500, seconds=600, search_seconds=0.5)
        self.faults: list[str] = []
        self.keeper = ReplicaKeeper(
            lambda: self.catalog, directory, policy, partial(ReplicaLink, code=package)
        )
        self.keeper.heard = self.faults.append

    def cloned(self) -> None:
        """Waits until the stub searches."""
        wait_until(lambda: self.device() == "cuda", "the replica searches")

    def device(self) -> str:
        return self.catalog.search_on(1, clustered(1, D), 1, None, 1, self.plain)[0]

    def same(self, queries: Vectors, k: int = 10) -> str:
        """Fails unless the answer is the CPU's; the device that answered."""
        device, rows = self.catalog.search_on(1, queries, k, None, 1, self.plain)
        with self.catalog._lock.reading():
            cpu = self.catalog.indexes[1].search(queries, k, None, 1, self.plain)
        for got, want in zip(rows, cpu, strict=True):
            best = sorted((-near.score, near.item) for near in want)[:k]
            assert sorted((-near.score, near.item) for near in got)[:k] == best
        return device

    def doubtful(self, queries: Vectors, k: int = 10) -> list[int]:
        """The queries that the CPU has to answer too."""
        delta = self.catalog.delta(1)
        assert delta is not None
        found = self.keeper.candidates(delta, 1, queries, k, self.plain)
        assert found is not None
        return delta.merged(self.catalog.indexes[1], queries, k, found, 1)[1]
