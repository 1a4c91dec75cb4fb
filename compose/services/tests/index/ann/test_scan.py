"""A scan by several threads finds what one finds."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuctl_serving.index.ann import flat, share
from gpuctl_serving.index.ann import scan as scanning
from gpuctl_serving.index.ann.flat import FlatIndex
from gpuctl_serving.index.ann.near import Items
from gpuctl_serving.index.ann.scan import scan
from gpuctl_serving.index.vectors import Vectors
from tests.index.ann.support import clustered


@given(st.integers(1, 200), st.integers(1, 19), st.integers(1, 200), st.integers(1, 5), st.integers(0, 1000))
def test_every_share_adds_its_best(count: int, asked: int, k: int, shares: int, seed: int) -> None:
    rows, queries = clustered(count, 8, seed=seed), clustered(asked, 8, seed=seed + 1)
    k, shares = min(k, count), min(shares, count)
    scores, numbers = scan(rows, queries, k, shares)
    products = queries @ rows.T
    assert scores.shape == numbers.shape == (asked, k)
    np.testing.assert_allclose(scores, -np.sort(-products, axis=1)[:, :k], atol=1e-6)
    np.testing.assert_allclose(np.take_along_axis(products, numbers, axis=1), scores, atol=1e-6)
    assert all(len(set(row)) == k for row in numbers.tolist())


def test_what_no_thread_could_be_started_for_does_not_begin_later(monkeypatch: pytest.MonkeyPatch) -> None:
    queued = list[tuple[Any, ...]]()

    def refused(*work: Any) -> None:
        queued.append(work)
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(scanning._HELPERS, "submit", refused)
    with pytest.raises(RuntimeError, match="new thread"):
        scan(clustered(30, 8), clustered(1, 8), 3, 3)
    [(answer, share, _)] = queued
    answer(share, lambda: pytest.fail("it reads rows that nobody keeps where they are"))


@pytest.fixture
def everything_is_worth_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(share, "_WORTH", 1)


@pytest.mark.usefixtures("everything_is_worth_a_thread")
def test_an_index_answers_alike_with_any_number_of_threads_also_where_vectors_tie(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows = np.repeat(clustered(300, 16), 3, axis=0)
    index = FlatIndex(16)
    index.put(index.prepare(np.arange(len(rows)), rows))
    queries, used = clustered(4, 16, seed=9), list[int]()

    def seen(rows: Vectors, queries: Vectors, k: int, shares: int) -> tuple[Vectors, Items]:
        used.append(shares)
        return scan(rows, queries, k, shares)

    monkeypatch.setattr(flat, "scan", seen)

    def answers(threads: int) -> list[list[tuple[int, float]]]:
        found = index.search(queries, 10, None, threads)
        return [sorted((near.item, near.score) for near in each) for each in found]

    alone = answers(1)
    assert used == []
    assert answers(2) == alone and answers(7) == alone
    assert set(used) == {2, 7}
