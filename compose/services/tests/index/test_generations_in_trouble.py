"""A generation built on a full disk or beside damaged files: the one that serves goes on, unmixed."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from gpuctl_serving.index.durable import manifest as manifests
from tests.index.durable import damage
from tests.index.durable.test_full_disks import files_end_at
from tests.index.stub_embedder import StubEmbedder
from tests.index.support import Index, index
from tests.index.test_generations import ONE, TWO, ensure, first, texts

COUNT = 300


@pytest.fixture
def one(tmp_path: Path) -> Iterator[StubEmbedder]:
    with StubEmbedder(tmp_path / "one.sock", model="one", dimension=8) as made:
        yield made


@pytest.fixture
def two(tmp_path: Path) -> Iterator[StubEmbedder]:
    with StubEmbedder(tmp_path / "two.sock", model="two", dimension=6) as made:
        yield made


def standing(made: Index) -> dict[str, dict[str, int]]:
    return {one["key"]: one for one in made.private.get("/private/index").json()["generations"]}


def answers(made: Index) -> bool:
    return all(first(made, f"text of n{number}") == f"n{number}" for number in range(0, COUNT, 23))


def test_a_generation_without_room_is_refused_and_goes_on_where_it_was(
    tmp_path: Path, one: StubEmbedder, two: StubEmbedder
) -> None:
    directory = tmp_path / "i"
    with index(directory, index_generation=ONE, embedder_url=one.address) as old:
        texts(old, *[f"n{number}" for number in range(COUNT)])
        ask = {"key": TWO, "dimension": 6, "embedder": two.address}
        log = damage.segments(directory)[-1]
        assert old.control("generations/ensure", {**ask, "key": "seen|6"})[0] == 200
        # Room for some of it.
        with files_end_at(log.stat().st_size + 6_000):
            status, refused = old.control("generations/ensure", ask)
            assert status in (503, 507) and "nothing of this request" in refused["message"], refused
            assert answers(old)
            status, pruned = old.control("generations/prune", {"keep": [ONE, TWO]})
            assert (status, pruned.get("pruned")) in ((200, ["seen|6"]), (503, None), (507, None)), pruned
        assert answers(old)
        held = standing(old).get(TWO, {"vectors": 0})["vectors"]
        assert held < COUNT and ensure(old, TWO, two)["embedded"] == COUNT - held
        assert old.post("verify", {})["result"]["ok"]
        assert old.control("generations/prune", {"keep": [ONE, TWO]})[0] == 200
    with index(directory, index_generation=TWO, embedder_url=two.address) as new:
        assert new.stats()["vectors"] == COUNT and answers(new)


@pytest.mark.parametrize("file", ["manifest.json", "faiss/ns-1.faiss", "faiss/catalog.json", "index.db"])
@pytest.mark.parametrize("running", [True, False], ids=["running", "at start"])
def test_a_damaged_snapshot_of_the_generation_that_serves_disturbs_neither_it_nor_the_next(
    tmp_path: Path, one: StubEmbedder, two: StubEmbedder, file: str, running: bool
) -> None:
    directory = tmp_path / "i"
    with index(directory, index_generation=ONE, embedder_url=one.address) as old:
        texts(old, *[f"n{number}" for number in range(COUNT)])
        name = old.post("snapshot", {})["result"]["snapshot"]
        path = directory / manifests.FOLDER / name / file
        damage.flip(path, [path.stat().st_size * 4])
        if running:
            found = old.post("verify", {})["result"]["findings"]
            assert len(found) == 1 and name in found[0], found
            assert any("a new one is made" in line for line in old.stats()["durability"]["recovery"]["said"])
            ensure(old, TWO, two)
            assert answers(old)
    with index(directory, index_generation=ONE, embedder_url=one.address) as again:
        assert answers(again)
        ensure(again, TWO, two)
    with index(directory, index_generation=TWO, embedder_url=two.address) as new:
        assert new.stats()["vectors"] == COUNT and answers(new)
        assert new.post("snapshot", {})["state"] == "done"
    with index(directory, index_generation=TWO, embedder_url=two.address) as saved:
        assert answers(saved)
