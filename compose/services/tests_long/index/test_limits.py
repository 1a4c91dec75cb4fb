"""How far one index goes on one machine: a million vectors, how fast they come, searches in a rebuild."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from tests.index.instances import wait_until
from tests.index.support import BASE

from tests_long.index.service import IndexProcess, add_bodies, search_bodies, subjects

Keep = Callable[[str, Any], None]

DIMENSION = 384
MILLION = 1_000_000
#: While it grows: the lists of IVFFlat with their slack, then the codes beside them and their sample.
GROWING_MIB = 3500
#: Codes, places and the process itself, once it is IVFPQ and started anew.
SERVING_MIB = 900
SECOND_BATCH = 100_000


def recall(index: IndexProcess, queries: Any, truth: list[set[int]], **effort: float) -> float:
    """Share of the ten true neighbours that are found."""
    shares = []
    for at in range(0, len(queries), 50):
        body = {"vectors": queries[at : at + 50].tolist(), "k": 10, "include": [], **effort}
        answer = index.http.post(f"{BASE}/search", content=orjson.dumps(body))
        assert answer.status_code == 200, answer.text
        for want, row in zip(truth[at : at + 50], answer.json()["results"], strict=True):
            shares.append(len(want & {hit["id"] for hit in row}) / 10)
    return float(np.mean(shares))


def test_a_million_vectors_are_held_within_the_stated_memory_and_found(tmp_path: Path, figures: Keep) -> None:
    rows, queries = subjects(MILLION, DIMENSION, 1), subjects(200, DIMENSION, 2)
    scores = np.concatenate([queries @ rows[at : at + 50_000].T for at in range(0, MILLION, 50_000)], axis=1)
    truth = [set(map(int, one)) for one in np.argpartition(scores, -10, axis=1)[:, -10:]]
    del scores
    with IndexProcess(tmp_path) as index:
        seconds = 0.0
        for at in range(0, MILLION, 50_000):
            seconds += index.add(add_bodies(rows[at : at + 50_000], at))
        wait_until(index.settled, "the million is IVFPQ", 3600)
        said = index.stats()["indexes"]["default"]
        assert (said["type"], said["vectors"]) == ("IVFPQ", MILLION)
        growing = index.memory_mib("VmHWM")
        found = {str(goal): recall(index, queries, truth, recall=goal) for goal in (0.8, 0.9, 0.95)}
        assert index.http.post(f"{BASE}/snapshot", json={}, timeout=900).status_code == 200
    began = time.monotonic()
    with IndexProcess(tmp_path) as index:
        started = time.monotonic() - began
        times = index.searched(search_bodies(queries), 32, lambda done: done >= 5000)
        serving = index.memory_mib("VmHWM")
        kind = index.stats()["indexes"]["default"]["type"]
    figures(
        "index-million",
        {
            "addsPerSecond": round(MILLION / seconds),
            "growingMiB": growing,
            "servingMiB": serving,
            "startSeconds": round(started, 2),
            "recallByTarget": found,
            "searchP50Ms": round(float(np.percentile(times, 50)), 2),
            "searchP99Ms": round(float(np.percentile(times, 99)), 2),
        },
    )
    assert growing <= GROWING_MIB
    assert kind == "IVFPQ" and serving <= SERVING_MIB
    for goal, share in found.items():
        assert share >= float(goal) - 0.05


def test_ten_thousand_vectors_a_second_are_added_in_batches(tmp_path: Path, figures: Keep) -> None:
    bodies = add_bodies(subjects(SECOND_BATCH, DIMENSION, 3))
    with IndexProcess(tmp_path) as index:
        rate = SECOND_BATCH / index.add(bodies)
        assert index.stats()["vectors"] == SECOND_BATCH
    figures("index-adds", {"addsPerSecond": round(rate), "vectors": SECOND_BATCH, "batch": 2000})
    assert rate >= 10_000


def test_searches_while_an_index_is_rebuilt_stay_within_three_times_their_p99(
    tmp_path: Path, figures: Keep
) -> None:
    queries = search_bodies(subjects(500, DIMENSION, 4))
    with IndexProcess(tmp_path) as index:
        index.add(add_bodies(subjects(60_000, DIMENSION, 5)))
        wait_until(index.settled, "the index is IVFFlat", 600)
        index.searched(queries, 4, lambda done: done >= 500)
        quiet = index.searched(queries, 4, lambda done: done >= 4000)
        # Past 100,000 vectors it becomes IVFPQ, the longest of the rebuilds.
        index.add(add_bodies(subjects(45_000, DIMENSION, 6), 60_000))
        wait_until(lambda: index.stats()["promotion"]["running"], "the rebuild begins", 60)
        asked_at = [0.0]

        def over(_: int) -> bool:
            if time.monotonic() - asked_at[0] > 0.5:
                asked_at[0] = time.monotonic()
                return bool(index.stats()["indexes"]["default"]["type"] == "IVFPQ")
            return False

        during = index.searched(queries, 4, over)
    before, meanwhile = (float(np.percentile(times, 99)) for times in (quiet, during))
    figures(
        "index-rebuild",
        {"p99Ms": round(before, 2), "p99DuringRebuildMs": round(meanwhile, 2), "searches": len(during)},
    )
    assert meanwhile <= 3 * before
