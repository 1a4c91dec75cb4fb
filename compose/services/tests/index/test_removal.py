"""A namespace is gone by its name at once, then item by item; what a kill left goes with the next removal."""

from pathlib import Path

import pytest

from gpuctl_serving.index import removal
from tests.index import direct
from tests.index.durable import damage
from tests.index.support import Index, axis, index


def fill(made: Index, namespace: str, count: int) -> None:
    made.add(
        *({"id": n, "vector": axis(n % 4), "metadata": {"n": n}} for n in range(count)), namespace=namespace
    )


def test_everything_in_it_is_gone_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(removal, "_PIECE", 7)
    with index(tmp_path, index_dimension=4) as made:
        fill(made, "kept", 5)
        fill(made, "old~before-1", 30)
        done = made.post("namespaces/remove", {"namespace": "old~before-1"})
        assert done["result"] == {"namespace": "old~before-1", "items": 30, "deleted": 30}
        said = made.stats()
        assert (said["namespaces"], said["items"], said["vectors"]) == ({"kept": 5}, 5, 5)
        assert made.found(axis(0), namespace="old~before-1") == []
        assert made.post("verify", {})["result"]["ok"]
        fill(made, "old~before-1", 3)
        assert made.stats()["namespaces"] == {"kept": 5, "old~before-1": 3}
    for file in damage.database_files(tmp_path):
        file.unlink()
    with index(tmp_path, index_dimension=4) as made:
        assert made.stats()["namespaces"] == {"kept": 5, "old~before-1": 3}
        assert len(made.found(axis(0), namespace="kept")) == 5


def test_one_that_is_not_there_is_no_success(tmp_path: Path) -> None:
    with index(tmp_path, index_dimension=4) as made:
        fill(made, "kept", 1)
        status, said = made.refused("namespaces/remove", {"namespace": "nowhere"})
        assert (status, "'nowhere'" in said) == (404, True)
        assert made.refused("namespaces/remove", {})[0] == 422
        assert made.refused("namespaces/remove", {"namespace": ""})[0] == 422
        assert made.stats()["items"] == 1


def test_what_an_interrupted_removal_left_cannot_be_found_and_goes_with_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(removal, "_PIECE", 3)
    core = direct.open_core(tmp_path)
    for namespace in ("one", "two"):
        direct.add(core, [direct.item(f"n{n}", [1, n, 0]) for n in range(10)], namespace=namespace)

    def die(_: str, done: int, of: int) -> None:
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        removal.remove(core, "one", die)
    direct.close(core)
    core = direct.open_core(tmp_path)
    assert direct.search(core, [1, 0, 0], 5, namespace="one") == []
    assert direct.search(core, [1, 0, 0], 1, namespace="two") == [("n0", 1.0)]
    done = removal.remove(core, "two", lambda phase, done, of: None)
    assert done == {"namespace": "two", "items": 10, "deleted": 17}
    assert damage.content(core)["total"] == 0
    direct.close(core)
