"""The GPU's copy, with a CPU's clone in its place: the same answers, whatever changes meanwhile."""

import numpy as np
import pytest

from gpuctl_serving.index.vectors import Vectors
from tests.index.ann.rig import D, Rig
from tests.index.ann.support import clustered, units
from tests.index.instances import wait_until


def test_its_answers_are_the_cpus_and_stay_so_while_items_are_added_replaced_and_deleted(rig: Rig) -> None:
    rig.cloned()
    queries = clustered(12, D, seed=5)
    assert rig.same(queries) == "cuda"
    random = np.random.default_rng(2)
    for step in range(6):
        some = (random.choice(3300, 40, replace=False) + 1).tolist()
        if step % 3 == 1:
            rig.catalog.apply(rig.truth.drop(some))
        else:
            rig.catalog.apply(rig.truth.put(some, clustered(40, D, seed=step + 20)))
    delta = rig.catalog.delta(1)
    assert delta is not None and delta.changes > 200 and rig.keeper.facts()["lag"] == delta.changes
    if rig.catalog.indexes[1].plan.kind == "IVFPQ":
        # The delta is searched exactly, codes are not: the copy may only find more.
        found = rig.catalog.search_on(1, queries, 10, None, 1, rig.plain)
        assert found[0] == "cuda"
        for query, row in zip(queries, found[1], strict=True):
            got = {near.item for near in row}
            assert len(got & {item for _, item in rig.truth.best(query, 10)}) >= 5
            assert got <= set(rig.truth.rows)
    else:
        assert rig.same(clustered(12, D, seed=6)) == "cuda"
    # All of what is nearest is deleted: the copy's candidates are not enough.
    near = [item for _, item in rig.truth.best(queries[0], 60)]
    rig.catalog.apply(rig.truth.drop(near))
    _, rows = rig.catalog.search_on(1, queries[:1], 10, None, 1, rig.plain)
    assert len(rows[0]) >= 10 and not {one.item for one in rows[0]} & set(near)
    rig.same(queries[:1])


def far_from(query: Vectors, count: int) -> Vectors:
    """Vectors that are further from it than anything else."""
    return units(clustered(count, D, seed=40) * 0.1 - query)


@pytest.mark.parametrize("how", ["deleted", "replaced"])
def test_what_is_far_does_not_fill_the_places_of_what_was_nearest(rig: Rig, how: str) -> None:
    rig.cloned()
    query = clustered(1, D, seed=5)
    # Of codes ten times as many candidates are fetched.
    lost = 96 if rig.catalog.indexes[1].plan.kind == "IVFPQ" else 12
    near = [item for _, item in rig.truth.best(query[0], lost)]
    if how == "deleted":
        rig.catalog.apply(rig.truth.drop(near))
        near = list(range(20_001, 20_011))
    rig.catalog.apply(rig.truth.put(near, far_from(query, len(near))))
    assert rig.same(query) == "cuda"
    assert rig.doubtful(query) == [0]


def test_what_changes_far_away_or_little_is_not_asked_of_the_cpu(rig: Rig) -> None:
    rig.cloned()
    queries = clustered(12, D, seed=5)
    rig.catalog.apply(rig.truth.put(range(20_001, 20_041), far_from(queries[:1], 40)))
    assert rig.doubtful(queries) == []
    # One of the best of each goes, and one is replaced.
    best = [[item for _, item in rig.truth.best(query, 2)] for query in queries]
    rig.catalog.apply(rig.truth.drop(sorted({first for first, _ in best})))
    moved = sorted({second for _, second in best} & set(rig.truth.rows))
    rig.catalog.apply(rig.truth.put(moved, far_from(queries[:1], len(moved))))
    assert len(rig.doubtful(queries)) < 4 and rig.same(queries[:1]) == "cuda"


def test_the_copy_is_not_asked_for_so_many_that_it_hands_over_none_beyond_them(flat: Rig) -> None:
    flat.keeper.start()
    flat.cloned()
    query = clustered(1, D, seed=5)
    assert flat.same(query, 2000) == "cuda"
    assert flat.same(query, 2048) == "cpu"


def test_equal_ones_are_all_there_to_be_put_in_order_though_something_far_was_added(flat: Rig) -> None:
    same = clustered(1, D, seed=5)
    flat.catalog.apply(flat.truth.put(range(4030, 4000, -1), np.repeat(same, 30, axis=0)))
    flat.keeper.start()
    flat.cloned()
    flat.catalog.apply(flat.truth.put(range(20_001, 20_011), far_from(same, 10)))
    assert flat.same(same) == "cuda"


def test_after_many_writes_it_is_copied_anew_and_lags_no_more(rig: Rig) -> None:
    rig.cloned()
    rig.catalog.apply(rig.truth.put(range(20_001, 20_601), clustered(600, D, seed=9)))
    wait_until(lambda: rig.keeper.clones == 2 and rig.keeper.facts()["lag"] == 0, "the second copy")
    assert rig.same(clustered(5, D, seed=6)) == "cuda"


def test_a_filter_is_searched_by_the_cpu(rig: Rig) -> None:
    rig.cloned()
    assert rig.catalog.search_on(1, clustered(1, D), 3, [1, 2, 3], 1, rig.plain)[0] == "cpu"
