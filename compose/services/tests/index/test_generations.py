"""A new embedding model gets a generation of its own; the old one stays, and can come back."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from gpuctl_serving.index import writing
from tests.index.instances import wait_until
from tests.index.stub_embedder import StubEmbedder
from tests.index.support import Index, index

ONE, TWO = "model-one|8", "model-two|6"


@pytest.fixture
def one(tmp_path: Path) -> Iterator[StubEmbedder]:
    with StubEmbedder(tmp_path / "one.sock", model="one", dimension=8) as made:
        yield made


@pytest.fixture
def two(tmp_path: Path) -> Iterator[StubEmbedder]:
    with StubEmbedder(tmp_path / "two.sock", model="two", dimension=6) as made:
        yield made


def texts(index: Index, *names: str, upsert: bool = False) -> None:
    """Adds items by their texts alone."""
    index.add(*({"id": name, "text": f"text of {name}"} for name in names), upsert=upsert)


def first(index: Index, text: str) -> str:
    """Id of the best answer to a text."""
    answer = index.post("search", {"text": text, "k": 1})
    return str(answer["results"][0][0]["id"])


def ensure(index: Index, key: str, embedder: StubEmbedder) -> dict[str, int]:
    """Calls until nothing is missing; the sums."""
    total = {"embedded": 0, "calls": 0}
    while True:
        status, answer = index.control(
            "generations/ensure", {"key": key, "dimension": embedder.dimension, "embedder": embedder.address}
        )
        assert status == 200, answer
        total["embedded"] += answer["embedded"]
        total["calls"] += 1
        assert total["calls"] < 50
        if not answer["missing"]:
            return {**total, "unembeddable": answer["unembeddable"]}


def test_an_item_with_a_text_alone_is_embedded_and_found_by_a_text(tmp_path: Path, one: StubEmbedder) -> None:
    with index(tmp_path / "i", index_generation=ONE, embedder_url=one.address) as made:
        texts(made, "a", "b", "c")
        assert first(made, "text of b") == "b"
        assert made.stats()["generation"] == ONE


def test_a_new_generation_is_built_beside_the_old_and_served_by_the_next_instance(
    tmp_path: Path, one: StubEmbedder, two: StubEmbedder
) -> None:
    names = [f"n{number}" for number in range(100)]
    with index(tmp_path / "i", index_generation=ONE, embedder_url=one.address) as old:
        texts(old, *names)
        old.add({"id": "bare", "vector": one.vector("bare")})
        assert ensure(old, TWO, two) == {"embedded": 100, "calls": 1, "unembeddable": 1}
        assert ensure(old, TWO, two)["embedded"] == 0
        assert first(old, "text of n7") == "n7"
        standing = {one["key"]: one for one in old.private.get("/private/index").json()["generations"]}
        assert standing[ONE]["vectors"] == 101 and standing[TWO]["vectors"] == 100
        with index(tmp_path / "i", "closed", index_generation=TWO, embedder_url=two.address) as new:
            assert new.stats()["dimension"] == 6 and new.stats()["vectors"] == 100
            assert first(new, "text of n42") == "n42"
            texts(old, "later")
            assert ensure(old, TWO, two)["embedded"] == 1
            assert_follows(old, new)
            assert first(new, "text of later") == "later"


def test_rolling_back_embeds_only_the_later_writes(
    tmp_path: Path, one: StubEmbedder, two: StubEmbedder
) -> None:
    with index(tmp_path / "i", index_generation=ONE, embedder_url=one.address) as old:
        texts(old, *[f"n{number}" for number in range(50)])
        ensure(old, TWO, two)
    with index(tmp_path / "i", index_generation=TWO, embedder_url=two.address) as new:
        new.add({"id": "n3", "text": "changed"}, upsert=True)
        texts(new, "later")
        new.post("delete", {"ids": ["n4"]})
        one.asked.clear()
        assert ensure(new, ONE, one)["embedded"] == 2
        assert sorted(one.asked) == ["changed", "text of later"]
    with index(tmp_path / "i", index_generation=ONE, embedder_url=one.address) as back:
        assert back.stats()["vectors"] == 50
        assert first(back, "changed") == "n3"
        assert first(back, "text of later") == "later"


def test_a_stale_vector_is_not_served_under_a_new_text(
    tmp_path: Path, one: StubEmbedder, two: StubEmbedder
) -> None:
    with index(tmp_path / "i", index_generation=ONE, embedder_url=one.address) as old:
        texts(old, "a", "b")
        ensure(old, TWO, two)
        old.add({"id": "a", "text": "changed"}, upsert=True)
    with index(tmp_path / "i", index_generation=TWO, embedder_url=two.address) as new:
        assert new.stats()["vectors"] == 1 and new.stats()["missing"] == 1
        assert first(new, "text of a") == "b"


def test_a_text_the_embedder_refuses_counts_as_unembeddable_and_does_not_stop_the_rest(
    tmp_path: Path, one: StubEmbedder, two: StubEmbedder
) -> None:
    with index(tmp_path / "i", index_generation=ONE, embedder_url=one.address) as made:
        one.refuses = "nothing is refused"
        made.add(*({"id": f"n{n}", "text": "poison" if n == 20 else f"text {n}"} for n in range(40)))
        assert ensure(made, TWO, two) == {"embedded": 39, "calls": 1, "unembeddable": 1}


def test_an_embedder_that_fails_or_answers_another_dimension_stores_nothing(
    tmp_path: Path, one: StubEmbedder, two: StubEmbedder
) -> None:
    with index(tmp_path / "i", index_generation=ONE, embedder_url=one.address) as made:
        texts(made, "a")
        status, answer = made.control(
            "generations/ensure", {"key": TWO, "dimension": 7, "embedder": two.address}
        )
        assert status == 503 and "6 dimensions" in answer["message"]
        status, answer = made.control(
            "generations/ensure", {"key": ONE, "dimension": 6, "embedder": one.address}
        )
        assert status == 422 and "dimensions" in answer["message"]
        status, answer = made.control(
            "generations/ensure", {"key": "x|6", "dimension": 6, "embedder": f"unix:{tmp_path / 'nobody'}"}
        )
        assert status == 503 and "embedder" in answer["message"]
        one.status = 503
        status, message = made.refused("add", {"items": [{"id": "b", "text": "b"}]})
        assert status == 503 and "the stub says no" in message
        assert made.stats()["items"] == 1


def test_an_embedder_of_another_generation_is_not_believed(
    tmp_path: Path, one: StubEmbedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "SWITCH_SECONDS", 0.1)
    one.generation = "model-zero|8"
    with index(tmp_path / "i", index_generation=ONE, embedder_url=one.address) as made:
        status, message = made.refused("add", {"items": [{"id": "b", "text": "b"}]})
        assert status == 503 and "model-zero|8" in message
        one.generation = ONE
        texts(made, "a")


def test_an_index_that_is_ahead_of_its_embedder_waits_for_it(
    tmp_path: Path, one: StubEmbedder, two: StubEmbedder
) -> None:
    with index(tmp_path / "i", index_generation=ONE, embedder_url=one.address) as old:
        texts(old, "a")
        ensure(old, TWO, two)
    shared = tmp_path / "public.sock"
    shared.symlink_to(tmp_path / "one.sock")
    with (
        index(tmp_path / "i", index_generation=TWO, embedder_url=f"unix:{shared}") as new,
        ThreadPoolExecutor(1) as pool,
    ):
        asked = len(one.asked)
        answer = pool.submit(first, new, "text of a")
        wait_until(lambda: len(one.asked) > asked, "the old embedder was asked")
        shared.unlink()
        shared.symlink_to(tmp_path / "two.sock")
        assert answer.result() == "a"


def test_only_the_writer_builds_generations(tmp_path: Path, one: StubEmbedder) -> None:
    with (
        index(tmp_path / "i", index_generation=ONE, embedder_url=one.address),
        index(tmp_path / "i", "closed", index_generation=ONE) as follower,
    ):
        status, answer = follower.control(
            "generations/ensure", {"key": TWO, "dimension": 6, "embedder": one.address}
        )
        assert status == 409 and "not the writer" in answer["message"]


def test_pruning_keeps_what_is_named_and_refuses_to_drop_what_serves(
    tmp_path: Path, one: StubEmbedder, two: StubEmbedder
) -> None:
    with index(tmp_path / "i", index_generation=ONE, embedder_url=one.address) as made:
        texts(made, "a", "b")
        ensure(made, TWO, two)
        status, answer = made.control("generations/prune", {"keep": [TWO]})
        assert status == 422 and ONE in answer["message"]
        status, answer = made.control("generations/prune", {"keep": [ONE]})
        assert (status, answer) == (200, {"pruned": [TWO], "kept": [ONE]})
        assert made.stats()["generations"] == [ONE]
        assert first(made, "text of a") == "a"
        assert ensure(made, TWO, two)["embedded"] == 2


def test_a_write_from_an_older_generations_instance_lands_in_both(
    tmp_path: Path, one: StubEmbedder, two: StubEmbedder
) -> None:
    with index(tmp_path / "i", index_generation=ONE, embedder_url=one.address) as old:
        texts(old, "a")
        ensure(old, TWO, two)
    with index(tmp_path / "i", index_generation=TWO, embedder_url=two.address) as new:
        sent = {"items": [{"id": "late", "vector": one.vector("late words"), "text": "late words"}]}
        passed_on = {"x-gpuctl-forwarded": "1", "x-gpuctl-generation": ONE}
        answer = new.private.post("/api/v1/vector-store/add", json=sent, headers=passed_on)
        assert answer.status_code == 200, answer.text
        assert first(new, "late words") == "late"
        two.status = 503
        sent = {"items": [{"id": "later", "vector": one.vector("later"), "text": "later"}]}
        assert new.private.post("/api/v1/vector-store/add", json=sent, headers=passed_on).status_code == 200
        assert new.stats()["missing"] == 1
    with index(tmp_path / "i", index_generation=ONE, embedder_url=one.address) as back:
        assert back.stats()["missing"] == 0
        assert first(back, "late words") == "late"


def test_a_hold_brings_the_generation_up_to_date_before_it_releases(
    tmp_path: Path, one: StubEmbedder, two: StubEmbedder
) -> None:
    want = {"key": TWO, "dimension": 6, "embedder": two.address}
    with index(tmp_path / "i", index_generation=ONE, embedder_url=one.address) as old:
        texts(old, "a", "b")
        ensure(old, TWO, two)
        texts(old, "c")
        with index(tmp_path / "i", "closed", index_generation=TWO, embedder_url=two.address) as new:
            status, held = old.control(
                "writer/hold", {"holdMs": 2000, "successor": "unix:/x", "ensure": want}
            )
            assert status == 200, held
            status, taken = new.control("writer/take", {"deadlineMs": 2000})
            assert status == 200 and taken["sequence"] == held["sequence"] == 6
            assert new.stats()["missing"] == 0
            assert first(new, "text of c") == "c"


def test_a_hold_whose_embedder_is_gone_is_given_up_and_the_writer_writes_on(
    tmp_path: Path, one: StubEmbedder
) -> None:
    want = {"key": TWO, "dimension": 6, "embedder": f"unix:{tmp_path / 'nobody'}"}
    with index(tmp_path / "i", index_generation=ONE, embedder_url=one.address) as old:
        texts(old, "a")
        status, _ = old.control("writer/hold", {"holdMs": 1000, "successor": "unix:/x", "ensure": want})
        assert status == 503
        texts(old, "b")
        assert old.stats()["role"] == "writer"


def assert_follows(writer: Index, follower: Index) -> None:
    """Waits until the follower has what the writer has."""
    wait_until(lambda: follower.stats()["sequence"] == writer.stats()["sequence"], "the follower follows", 2)
