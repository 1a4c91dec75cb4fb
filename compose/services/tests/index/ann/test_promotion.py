"""Rebuilding aside: nothing is lost, searches go on, and what goes wrong leaves the old index in service."""

import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from gpuctl_serving.index.ann.flat import FlatIndex
from gpuctl_serving.index.ann.near import Effort, Items
from gpuctl_serving.index.ann.plan import FLAT, Plan, Policy
from gpuctl_serving.index.ann.promotion import Promoter
from gpuctl_serving.index.ann.training import Abandoned, Pace, build
from gpuctl_serving.index.catalog import Catalog
from gpuctl_serving.index.vectors import Vectors
from tests.index.ann.support import DictTruth, clustered, unhurried
from tests.index.instances import ROOT, wait_until
from tests.index.support import in_base64, index

D = 16


class SlowTruth(DictTruth):
    """Lets a test act between two pieces."""

    def __init__(self, dimension: int) -> None:
        super().__init__(dimension)
        self.reached, self.go_on = threading.Event(), threading.Event()
        self.failure: Exception | None = None

    def every(self, ns: int) -> Iterator[tuple[Items, Vectors]]:
        for at, piece in enumerate(super().every(ns)):
            if at == 1:
                self.reached.set()
                self.go_on.wait(20)
                if self.failure:
                    raise self.failure
            yield piece


def filled(count: int) -> tuple[Catalog, SlowTruth]:
    truth = SlowTruth(D)
    catalog = Catalog(D, truth)
    catalog.apply(truth.put(range(1, count + 1), clustered(count, D)))
    return catalog, truth


def test_what_changes_during_a_rebuild_is_in_the_new_index_and_searches_never_stop() -> None:
    catalog, truth = filled(4000)
    promoter = Promoter(lambda: catalog, Policy("IVFFlat", 64))
    builder = threading.Thread(target=promoter.look)
    builder.start()
    assert truth.reached.wait(20)
    # The first thousand were read already; all kinds of changes hit both sides.
    catalog.apply(truth.put([5, 3500, 9001], clustered(3, D, seed=77)))
    catalog.apply(truth.drop([6, 3600]))
    catalog.apply(truth.put([9002], clustered(1, D, seed=78)))
    catalog.apply(truth.drop([9002]))
    assert catalog.search(1, truth.rows[9001].reshape(1, -1), 1, None, 1)[0].items[0] == 9001
    assert promoter.work is not None and promoter.work.to.kind == "IVFFlat"
    truth.go_on.set()
    builder.join(30)
    made = catalog.indexes[1]
    assert made.plan == Plan("IVFFlat", 64)
    assert sorted(made.items().tolist()) == sorted(truth.rows)
    for item in (5, 3500, 9001):
        found = catalog.search(1, truth.rows[item].reshape(1, -1), 1, None, 1, Effort(nprobe=64))[0]
        assert max(found, key=lambda near: near.score).item == item
    assert promoter.counts["done"] == 1 and promoter.work is None


def test_a_stop_in_the_middle_leaves_the_old_index_and_no_journal() -> None:
    catalog, truth = filled(4000)
    promoter = Promoter(lambda: catalog, Policy("IVFFlat", 64))
    promoter.start()
    assert truth.reached.wait(20)
    threading.Timer(0.05, truth.go_on.set).start()
    promoter.stop()
    assert not promoter.is_alive()
    assert catalog.indexes[1].plan == FLAT and promoter.counts["abandoned"] == 1
    assert not catalog._journals


def test_a_reload_in_the_middle_abandons_what_was_built_for_the_old_catalog() -> None:
    catalog, truth = filled(4000)
    current = [catalog]
    promoter = Promoter(lambda: current[0], Policy("IVFFlat", 64))
    builder = threading.Thread(target=promoter.look)
    builder.start()
    assert truth.reached.wait(20)
    current[0] = Catalog(D, truth)
    truth.go_on.set()
    builder.join(30)
    assert promoter.counts["abandoned"] == 1 and catalog.indexes[1].plan == FLAT


def test_a_failure_is_said_and_tried_again_later() -> None:
    catalog, truth = filled(4000)
    truth.failure = OSError("the disk is gone")
    truth.go_on.set()
    promoter = Promoter(lambda: catalog, Policy("IVFFlat", 64))
    promoter.look()
    promoter.look()
    assert promoter.counts == {"done": 0, "failed": 1, "abandoned": 0}
    assert "the disk is gone" in (promoter.reason(catalog, 1, catalog.indexes[1]) or "")
    assert catalog.indexes[1].plan == FLAT and not catalog._journals


def test_the_recall_that_was_measured_is_the_recall_that_is_found() -> None:
    count = 6000
    truth = DictTruth(D)
    truth.put(range(count), clustered(count, D))
    made = build(truth, 1, Plan("IVFFlat", 128), count, D, unhurried())
    queries = clustered(100, D, seed=50)
    for target in (0.8, 0.95, 0.99):
        nprobe = made.probes(Effort(recall=target))
        assert made.recall.at(nprobe) >= target
        found = made.search(queries, 10, None, 1, Effort(recall=target))
        shares = [
            len({item for _, item in truth.best(query, 10)} & {near.item for near in row}) / 10
            for query, row in zip(queries, found, strict=True)
        ]
        assert np.mean(shares) >= target - 0.04
    assert made.probes(Effort(recall=0.8)) < made.probes(Effort(recall=0.99)) <= 128
    assert made.probes(Effort(nprobe=5)) == 5 and made.probes(Effort(nprobe=999)) == 128


def test_a_pace_that_says_stop_ends_training_within_a_slice() -> None:
    truth = DictTruth(D)
    truth.put(range(6000), clustered(6000, D))
    asked = iter([False] * 3)
    began = time.monotonic()
    with pytest.raises(Exception, match=r"^$"):
        build(truth, 1, Plan("IVFFlat", 128), 6000, D, Pace(lambda: next(asked, True)))
    assert time.monotonic() - began < 10


def test_an_index_over_its_threshold_is_promoted_by_itself_and_says_so(tmp_path: Path) -> None:
    rows = clustered(2000, D)
    with index(tmp_path, GPUCTL_INDEX_TYPE="IVFFlat", GPUCTL_INDEX_NLIST="50") as made:
        items = [{"id": at, "vectorBase64": in_base64(row)} for at, row in enumerate(rows)]
        made.add(*items[:1900])
        said = made.stats()["indexes"]["default"]
        assert said["type"] == "Flat" and said["reason"].startswith("IVFFlat needs 1950 vectors to train")
        assert "gpuctl_vector_trained 0.0" in made.public.get("/metrics").text
        made.add(*items[1900:])
        wait_until(lambda: made.public.get("/info").json()["indexType"] == "IVFFlat", "the promotion")
        wait_until(lambda: made.stats()["promotion"]["done"] == 1, "its end")
        stats = made.stats()
        said = stats["indexes"]["default"]
        assert (said["type"], said["nlist"], said["trained"], said["reason"]) == ("IVFFlat", 50, True, None)
        assert said["recallProbe"] >= 0.95 and said["recall"][-1]["recall"] >= said["recallProbe"]
        assert stats["promotion"]["last"]["vectors"] == 2000
        for effort in ({}, {"nprobe": 50}, {"recall": 0.99}):
            answer = made.post("search", {"vector": rows[7].tolist(), "k": 1, "include": [], **effort})
            assert answer["indexType"] == "IVFFlat" and answer["results"][0][0] == {"id": 7, "score": 1.0}
        text = made.public.get("/metrics").text
        for line in ("gpuctl_vector_trained 1.0", 'gpuctl_vector_promotions_total{outcome="done"} 1.0'):
            assert line in text
        recall = next(line for line in text.splitlines() if line.startswith("gpuctl_vector_recall_probe "))
        assert 0.95 <= float(recall.split()[1]) <= 1


def test_what_changed_meanwhile_is_brought_in_piece_by_piece_and_can_be_stopped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("gpuctl_serving.index.catalog._PIECE", 100)
    truth = DictTruth(D)
    catalog = Catalog(D, truth)
    catalog.apply(truth.put(range(1, 11), clustered(10, D)))
    catalog.begin_rebuild(1)
    catalog.apply(truth.put(range(11, 951), clustered(940, D)))
    catalog.apply(truth.drop(range(500, 520)))
    asked, of = [0], truth.of
    sizes: list[int] = []

    def counting(items: Sequence[int]) -> tuple[Items, Vectors]:
        sizes.append(len(items))
        return of(items)

    monkeypatch.setattr(truth, "of", counting)
    index = FlatIndex(D)

    def stop() -> None:
        asked[0] += 1
        if asked[0] == 3:
            raise Abandoned

    with pytest.raises(Abandoned):
        catalog.catch_up(1, index, stop)
    assert len(index) == 300
    # What was asked for is not asked for again: an abandoned index is dropped.
    catalog.apply(truth.put(range(2001, 2151), clustered(150, D)))
    assert catalog.catch_up(1, index) == 150
    assert max(sizes) == 100


def test_a_service_that_was_started_nice_is_promoted_all_the_same_and_builds_nicer_still(
    tmp_path: Path,
) -> None:
    code = """
import os, threading, sys
from gpuctl_serving.index.ann.promotion import Promoter
from gpuctl_serving.index.ann.plan import Policy
os.nice(15)
if os.getuid() == 0:
    os.setuid(65534)
seen = threading.Event()
def looked():
    print(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()), flush=True)
    seen.set()
promoter = Promoter(looked, Policy())
promoter.start()
sys.exit(0 if seen.wait(20) else 1)
"""
    env = {"PYTHONPATH": str(ROOT / "src")}
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, env=env)
    assert (ran.returncode, ran.stdout) == (0, "19\n"), ran.stderr
