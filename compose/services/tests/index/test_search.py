"""What a search may ask for: ids as numbers, vectors in base64, several texts, what comes back, company."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.index.stub_embedder import StubEmbedder
from tests.index.support import BASE, Index, axis, in_base64, index


@pytest.fixture
def numbered(tmp_path: Path) -> Iterator[Index]:
    with index(tmp_path) as made:
        made.add(
            {"id": 7, "vector": axis(0), "text": "seven", "metadata": {"n": 7}},
            {"id": "7", "vector": axis(0), "text": "the text 7"},
            {"id": -12, "vector": axis(1)},
            {"id": 100, "vector": axis(0)},
            {"id": "a", "vector": axis(0)},
        )
        yield made


def test_ids_that_are_numbers_come_back_as_numbers_in_their_order(numbered: Index) -> None:
    assert numbered.found(axis(0)) == [7, 100, "7", "a", -12]
    assert numbered.public.get(f"{BASE}/items/100").json()["id"] == 100
    assert numbered.public.get(f"{BASE}/items/-12").json()["id"] == -12
    assert numbered.public.get(f"{BASE}/items/7").json()["text"] == "the text 7"
    assert numbered.public.get(f"{BASE}/items/007").status_code == 404
    assert numbered.post("items/lookup", {"ids": [7]})["items"] == {"7": {"metadata": {"n": 7}}}
    status, message = numbered.refused("add", {"items": [{"id": 7, "vector": axis(0)}]})
    assert status == 409 and "Already in this namespace: 7." in message
    assert numbered.post("delete", {"ids": [7, -12, 5]})["deleted"] == 2
    assert numbered.found(axis(0)) == [100, "7", "a"]


def test_many_items_are_fetched_at_once_with_their_vectors(numbered: Index) -> None:
    body = {"ids": ["7", 7, "nobody", 8], "include": ["text", "vector"]}
    answer = numbered.post("items/get", body)
    assert answer["missing"] == ["nobody", 8]
    assert answer["items"] == [
        {"id": "7", "text": "the text 7", "vector": axis(0)},
        {"id": 7, "text": "seven", "vector": axis(0)},
    ]
    coded = numbered.post("items/get", {"ids": [-12], "include": ["vector"], "encoding": "base64"})
    assert coded["items"] == [{"id": -12, "vectorBase64": in_base64(axis(1))}]
    assert numbered.post("items/get", {"ids": [1], "namespace": "none"})["missing"] == [1]
    assert numbered.refused("items/get", {"ids": []})[0] == 400
    assert numbered.refused("items/get", {"ids": [1], "include": ["colour"]})[0] == 422


def test_a_result_carries_what_was_asked_for_and_no_more(numbered: Index) -> None:
    def first(**more: Any) -> dict[str, Any]:
        hit: dict[str, Any] = numbered.post("search", {"vector": axis(0), "k": 1, **more})["results"][0][0]
        return hit

    assert first(include=[]) == {"id": 7, "score": 1.0}
    assert first() == {"id": 7, "score": 1.0, "text": "seven", "metadata": {"n": 7}}
    assert first(include=["metadata"]) == {"id": 7, "score": 1.0, "metadata": {"n": 7}}
    assert first(include=["vector"]) == {"id": 7, "score": 1.0, "vector": axis(0)}
    assert first(include=["vector"], encoding="base64")["vectorBase64"] == in_base64(axis(0))


def test_several_vectors_in_base64_are_a_batch(numbered: Index) -> None:
    rows = [axis(0), axis(1)]
    plain = numbered.post("search", {"vectors": rows, "k": 2})["results"]
    assert (
        numbered.post("search", {"vectorsBase64": [in_base64(row) for row in rows], "k": 2})["results"]
        == plain
    )
    status, message = numbered.refused(
        "search", {"vectorsBase64": [in_base64(axis(0)), in_base64([0.0] * 4)]}
    )
    assert status == 422 and "vectorsBase64[1]" in message
    status, message = numbered.refused("search", {"vectorsBase64": [in_base64(axis(0)), in_base64([1.0])]})
    assert status == 422 and "different dimensions" in message
    assert numbered.refused("search", {"vectors": rows, "vectorsBase64": []})[0] == 422


def test_several_texts_are_a_batch(tmp_path: Path) -> None:
    with (
        StubEmbedder(tmp_path / "e.sock") as embedder,
        index(tmp_path / "index", GPUCTL_EMBEDDER_URL=embedder.address) as made,
    ):
        texts = ["alpha", "beta", "gamma"]
        made.add(*({"id": at, "text": text} for at, text in enumerate(texts)))
        answer = made.post("search", {"texts": [*reversed(texts)], "k": 1, "include": []})
        assert [row[0]["id"] for row in answer["results"]] == [2, 1, 0]
        assert made.refused("search", {"texts": ["alpha", " "]})[0] == 400
        assert made.refused("search", {"texts": []})[0] == 400


@pytest.mark.parametrize(
    "wrong", [{"nprobe": 0}, {"nprobe": 2049}, {"recall": 0}, {"recall": 1.5}, {"nprobe": 4, "recall": 0.9}]
)
def test_an_effort_that_cannot_be_is_refused(numbered: Index, wrong: dict[str, Any]) -> None:
    status, message = numbered.refused("search", {"vector": axis(0), **wrong})
    assert status == 422 and next(iter(wrong)) in message


def test_searches_at_once_each_get_their_own_answer(tmp_path: Path) -> None:
    random = np.random.default_rng(5)
    rows = random.standard_normal((300, 8)).astype(np.float32)
    with index(tmp_path) as made:
        made.add(*({"id": at, "vector": row.tolist()} for at, row in enumerate(rows)))
        start = threading.Barrier(16)

        def ask(first: int) -> None:
            start.wait()
            for at in range(first, 300, 16):
                k = 1 + at % 3
                found = made.post("search", {"vector": rows[at].tolist(), "k": k, "include": []})["results"][
                    0
                ]
                assert len(found) == k and found[0] == {"id": at, "score": 1.0}

        with ThreadPoolExecutor(16) as pool:
            for done in [pool.submit(ask, first) for first in range(16)]:
                done.result()
        # A search that fails takes none of its company with it.
        assert made.refused("search", {"vector": [1.0, 0.0]})[0] == 422
        assert made.found(rows[3].tolist(), 1) == [3]
        text = made.public.get("/metrics").text
        assert "gpuctl_search_batch_size_bucket" in text
