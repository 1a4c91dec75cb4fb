"""A namespace changes its name in one step; what had the name is kept, and a replay gives the same."""

from pathlib import Path

from tests.index.support import Index, axis, index


def fill(made: Index) -> None:
    made.add({"id": "old", "vector": axis(0)}, namespace="live")
    made.add({"id": "new", "vector": axis(1)}, namespace="staged")


def names(made: Index, namespace: str) -> list[str]:
    return [str(one) for one in made.found(axis(0), namespace=namespace)]


def swap(made: Index) -> None:
    assert made.post("namespaces/rename", {"from": "staged", "to": "live", "keep": "before"})["items"] == 1


def test_what_was_staged_serves_and_what_served_is_kept(tmp_path: Path) -> None:
    with index(tmp_path, INDEX_DIMENSION=4) as made:
        fill(made)
        swap(made)
        assert names(made, "live") == ["new"]
        assert names(made, "before") == ["old"]
        assert names(made, "staged") == []
        made.add({"id": "fresh", "vector": axis(2)}, namespace="staged")
        assert made.stats()["namespaces"] == {"before": 1, "live": 1, "staged": 1}


def test_and_back_again(tmp_path: Path) -> None:
    with index(tmp_path, INDEX_DIMENSION=4) as made:
        fill(made)
        swap(made)
        made.post("namespaces/rename", {"from": "before", "to": "live", "keep": "staged"})
        assert (names(made, "live"), names(made, "staged")) == (["old"], ["new"])


def test_nothing_is_renamed_over_items_that_would_be_lost(tmp_path: Path) -> None:
    with index(tmp_path, INDEX_DIMENSION=4) as made:
        fill(made)
        status, said = made.refused("namespaces/rename", {"from": "staged", "to": "live"})
        assert (status, "`keep`" in said) == (409, True)
        made.add({"id": "x", "vector": axis(3)}, namespace="taken")
        assert made.refused("namespaces/rename", {"from": "staged", "to": "live", "keep": "taken"})[0] == 409
        assert made.refused("namespaces/rename", {"from": "nowhere", "to": "live"})[0] == 404
        assert made.refused("namespaces/rename", {"from": "live", "to": "live"})[0] == 422
        assert names(made, "live") == ["old"]


def test_an_empty_namespace_is_in_nobodys_way(tmp_path: Path) -> None:
    with index(tmp_path, INDEX_DIMENSION=4) as made:
        fill(made)
        for namespace, item in (("live", "old"), ("before", "gone")):
            made.add({"id": item, "vector": axis(0)}, namespace=namespace, upsert=True)
            made.post("delete", {"ids": [item], "namespace": namespace})
        made.post("namespaces/rename", {"from": "staged", "to": "live", "keep": "before"})
        assert names(made, "live") == ["new"]


def test_it_survives_a_restart_and_a_database_that_is_gone(tmp_path: Path) -> None:
    with index(tmp_path, INDEX_DIMENSION=4) as made:
        fill(made)
        swap(made)
    with index(tmp_path, INDEX_DIMENSION=4) as made:
        assert (names(made, "live"), names(made, "before")) == (["new"], ["old"])
    for file in tmp_path.glob("index.db*"):
        file.unlink()
    with index(tmp_path, INDEX_DIMENSION=4) as made:
        assert (names(made, "live"), names(made, "before")) == (["new"], ["old"])
        assert made.stats()["namespaces"] == {"before": 1, "live": 1}
