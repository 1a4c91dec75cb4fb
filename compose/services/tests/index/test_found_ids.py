"""Ids of found items: kept between searches, and never those of what is gone."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from gpuctl_serving.index.core import Core
from gpuctl_serving.index.found_ids import FoundIds
from tests.index import direct


@pytest.fixture
def core(tmp_path: Path) -> Iterator[Core]:
    made = direct.open_core(tmp_path)
    for at, name in enumerate("abc"):
        direct.add(made, [direct.item(name, [1, at / 10, 0])])
    yield made
    direct.close(made)


def test_ids_are_asked_of_the_database_once_while_nothing_changes(
    core: Core, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids, asked = FoundIds(), list[list[int]]()
    with core.readers.snapshot() as snapshot:
        names = snapshot.names

        def counted(items: Sequence[int]) -> dict[int, str]:
            asked.append(list(items))
            return names(items)

        monkeypatch.setattr(snapshot, "names", counted)
        for items in ([1, 2, 1], [2, 3], [3, 2, 1]):
            found = ids.of(snapshot, np.array(items), there=True)
            assert found == {item: "abc"[item - 1] for item in items}
    assert asked == [[1, 2], [3]]


def test_what_is_gone_has_no_id_though_it_was_known(core: Core) -> None:
    ids, items = FoundIds(), np.array([1, 2, 3])
    with core.readers.snapshot() as snapshot:
        ids.of(snapshot, items, there=True)
    direct.delete(core, ["b"])
    with core.readers.snapshot() as snapshot:
        assert ids.of(snapshot, items, there=False) == {1: "a", 3: "c"}


def test_items_that_share_a_slot_keep_their_own_ids(core: Core, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gpuctl_serving.index.found_ids._SLOTS", 2)
    ids = FoundIds()
    with core.readers.snapshot() as snapshot:
        for items in ([1, 2, 3], [3], [1], [1, 3]):
            assert ids.of(snapshot, np.array(items), there=True) == {item: "abc"[item - 1] for item in items}


def test_a_follower_that_lags_answers_nothing_that_was_deleted(
    core: Core, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    follower = direct.open_core(tmp_path, name="follower")
    try:
        assert [name for name, _ in direct.search(follower, [1, 0, 0], 3)] == ["a", "b", "c"]
        monkeypatch.setattr(follower.live, "catch_up", lambda: None)
        direct.delete(core, ["b"])
        assert len(follower.live.catalog or ()) == 3
        assert [name for name, _ in direct.search(follower, [1, 0, 0], 3)] == ["a", "c"]
    finally:
        direct.close(follower)


def test_a_catalog_that_was_replaced_is_known_up_to_nothing(core: Core) -> None:
    before = core.live.catalog
    assert before is not None
    assert core.live.upto(before) == core.live.applied == 3
    core.worker.call(core.live.load).result(10)
    assert core.live.upto(before) == -1
