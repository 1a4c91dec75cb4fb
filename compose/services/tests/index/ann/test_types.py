"""Each index type against brute force: after any changes, with filters, and after a trip through files."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuctl_serving.index.ann.near import BY_DEFAULT, Effort, Finds
from gpuctl_serving.index.ann.plan import FLAT, Plan
from gpuctl_serving.index.ann.training import build
from gpuctl_serving.index.catalog import Catalog
from gpuctl_serving.index.vectors import Vectors
from tests.index.ann.support import DictTruth, clustered, unhurried, units

D = 16
PLANS = [FLAT, Plan("IVFFlat", 32), Plan("IVFPQ", 32, 8)]
EVERYTHING = Effort(nprobe=32)


def made(plan: Plan, rows: Vectors) -> tuple[Catalog, DictTruth]:
    """A catalog with one namespace of that type, holding items 1, 2, ..."""
    truth = DictTruth(D)
    catalog = Catalog(D, truth)
    catalog.apply(truth.put(range(1, len(rows) + 1), rows))
    if plan != FLAT:
        catalog.begin_rebuild(1)
        catalog.swap(1, build(truth, 1, plan, len(rows), D, unhurried()))
    assert catalog.indexes[1].plan == plan
    return catalog, truth


def pairs(found: Finds, k: int) -> list[tuple[float, int]]:
    return sorted(((near.score, near.item) for near in found), key=lambda pair: (-pair[0], pair[1]))[:k]


def overlap(
    catalog: Catalog,
    truth: DictTruth,
    queries: Vectors,
    only: list[int] | None = None,
    effort: Effort = EVERYTHING,
) -> float:
    shares = []
    for query, found in zip(queries, catalog.search(1, queries, 10, only, 2, effort), strict=True):
        want = truth.best(query, 10, only)
        got = pairs(found, 10)
        # Whatever is found has its true score, whichever type found it.
        for score, item in got:
            assert score == pytest.approx(truth.best(query, 1, [item])[0][0], abs=1e-6)
        assert want or not got
        same = {item for _, item in want} & {item for _, item in got}
        shares.append(len(same) / len(want) if want else 1.0)
    return float(np.mean(shares))


@pytest.mark.parametrize("plan", PLANS, ids=lambda plan: plan.kind)
def test_probing_every_list_finds_what_brute_force_finds_after_adds_replacements_and_deletes(
    plan: Plan,
) -> None:
    count = 10_400 if plan.kind == "IVFPQ" else 3000
    catalog, truth = made(plan, clustered(count, D))
    random = np.random.default_rng(3)
    for step in range(12):
        some = random.choice(count + 500, 60, replace=False) + 1
        if step % 3 == 2:
            catalog.apply(truth.drop(some.tolist()))
        else:
            catalog.apply(truth.put(some.tolist(), clustered(60, D, seed=step + 10)))
        assert len(catalog) == len(catalog.indexes[1]) == len(truth.rows)
    assert sorted(catalog.indexes[1].items().tolist()) == sorted(truth.rows)
    queries = clustered(20, D, seed=99)
    least = 0.97 if plan.kind == "IVFPQ" else 1.0
    assert overlap(catalog, truth, queries) >= least
    for size in (0, 1, 7, 200, 2500):
        only = random.choice(sorted(truth.rows), size, replace=False).tolist()
        assert overlap(catalog, truth, queries, only) >= least
    # A filter may name items that are gone.
    assert overlap(catalog, truth, queries, [*only, 999_999]) >= least


@pytest.mark.parametrize("plan", PLANS, ids=lambda plan: plan.kind)
def test_what_is_saved_and_loaded_answers_the_same_and_can_be_changed_further(
    plan: Plan, tmp_path: Path
) -> None:
    catalog, truth = made(plan, clustered(10_400 if plan.kind == "IVFPQ" else 3000, D))
    catalog.apply(truth.drop([1, 5, 9]))
    names = catalog.save(tmp_path)
    assert sorted(names) == sorted(one.name for one in tmp_path.iterdir())
    again = Catalog(D, truth)
    again.load(tmp_path)
    queries = clustered(8, D, seed=4)
    for effort in (EVERYTHING, BY_DEFAULT):
        assert [pairs(one, 10) for one in again.search(1, queries, 10, None, 1, effort)] == [
            pairs(one, 10) for one in catalog.search(1, queries, 10, None, 1, effort)
        ]
    assert again.indexes[1].facts() == catalog.indexes[1].facts()
    again.apply(truth.put([5, 20_001], clustered(2, D, seed=8)) + truth.drop([2]))
    assert len(again) == len(truth.rows)
    assert pairs(again.search(1, truth.rows[20_001].reshape(1, -1), 1, None, 1)[0], 1)[0] == (1.0, 20_001)


def test_files_that_do_not_belong_together_are_refused_and_change_nothing(tmp_path: Path) -> None:
    catalog, _ = made(PLANS[1], clustered(3000, D))
    catalog.save(tmp_path)
    (tmp_path / "catalog.json").write_text(
        (tmp_path / "catalog.json").read_text().replace('"count":3000', '"count":2999')
    )
    with pytest.raises(ValueError, match="3000 vectors of 16 dimensions; 2999"):
        Catalog(D).load(tmp_path)
    (tmp_path / "catalog.json").write_text("{")
    with pytest.raises(ValueError, match=r"catalog\.json cannot be read"):
        catalog.load(tmp_path)
    assert len(catalog) == 3000
    with pytest.raises(OSError):
        Catalog(D).load(tmp_path / "nowhere")


def test_equal_vectors_have_equal_scores_in_every_type() -> None:
    rows = clustered(10_400, D)
    rows[100:110] = rows[100]
    query = units(np.ones((1, D), np.float32))
    for plan in PLANS:
        catalog, _ = made(plan, rows)
        only = list(range(101, 111))
        scores = {near.score for near in catalog.search(1, query, 10, only, 1, EVERYTHING)[0]}
        assert len(scores) == 1


@given(st.lists(st.sampled_from([0.5, 0.25, -1.0, 0.75]), max_size=12), st.integers(1, 14))
def test_the_best_are_k_and_what_ties_with_the_last_of_them(scores: list[float], k: int) -> None:
    finds = Finds(np.arange(len(scores), dtype=np.int64), np.array(scores))
    limit = sorted(scores, reverse=True)[min(k, len(scores)) - 1] if scores else 0.0
    assert [near.item for near in finds.best(k)] == [at for at, one in enumerate(scores) if one >= limit]


def test_a_newer_search_replaces_what_an_older_one_found() -> None:
    older = Finds(np.array([1, 2, 3]), np.array([0.1, 0.2, 0.3]))
    newer = Finds(np.array([2, 9]), np.array([0.8, 0.9]))
    assert {near.item: near.score for near in older.updated(newer)} == {1: 0.1, 2: 0.8, 3: 0.3, 9: 0.9}
