"""What `items/lookup` answers: which items are there, in one request."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.index.support import BASE, Index, axis, index


@pytest.fixture
def guide(tmp_path: Path) -> Iterator[Index]:
    with index(tmp_path) as made:
        made.add(
            {"id": "a#0", "vector": axis(0), "text": "alpha", "metadata": {"source": "a", "hash": "h1"}},
            {"id": "a#1", "vector": axis(1), "text": "beta", "metadata": {"source": "a", "hash": "h2"}},
            {"id": "lookup", "vector": axis(2), "metadata": {"source": "b"}},
        )
        yield made


def test_ids_that_are_there_come_with_their_metadata_and_the_others_are_left_out(guide: Index) -> None:
    answer = guide.post("items/lookup", {"ids": ["a#1", "nobody", "lookup", "a#1"]})
    assert answer == {
        "items": {
            "a#1": {"metadata": {"source": "a", "hash": "h2"}},
            "lookup": {"metadata": {"source": "b"}},
        }
    }


def test_a_filter_finds_every_item_of_its_sources(guide: Index) -> None:
    assert list(guide.post("items/lookup", {"filter": {"source": "a"}})["items"]) == ["a#0", "a#1"]
    assert len(guide.post("items/lookup", {"filter": {"source": ["a", "b"]}})["items"]) == 3
    assert guide.post("items/lookup", {"namespace": "other", "ids": ["a#0"]}) == {"items": {}}


def test_more_ids_than_one_statement_takes_are_all_looked_up(guide: Index) -> None:
    ids = [f"none-{n}" for n in range(5000)]
    assert list(guide.post("items/lookup", {"ids": [*ids, "a#0"]})["items"]) == ["a#0"]


@pytest.mark.parametrize(
    "body",
    [{}, {"ids": []}, {"filter": {}}, {"ids": ["a"], "filter": {"source": "a"}}, {"ids": ["x"] * 10_001}],
)
def test_a_wrong_look_up_is_refused(guide: Index, body: dict[str, Any]) -> None:
    status, message = guide.refused("items/lookup", body)
    assert status in (400, 413, 422)
    assert message


def test_the_sources_below_a_folder_are_listed_once_each_and_nothing_else(guide: Index) -> None:
    sources = ["docs/a.md", 'docs/q"\\é.md', "docs2/b.md", "100%/c.md", "docs/a.md"]
    guide.add(
        *(
            {"id": f"{n}", "vector": axis(n % 3), "metadata": {"source": one, "n": n}}
            for n, one in enumerate(sources)
        )
    )
    assert guide.post("items/values", {"key": "source", "prefix": "docs/"}) == {
        "values": ["docs/a.md", 'docs/q"\\é.md']
    }
    assert len(guide.post("items/values", {"key": "source"})["values"]) == 6
    assert guide.post("items/values", {"key": "source", "prefix": "%"}) == {"values": []}
    assert guide.post("items/values", {"key": "n"}) == {"values": []}
    assert guide.post("items/values", {"key": "source", "namespace": "other"}) == {"values": []}
    assert guide.refused("items/values", {"key": ""})[0] in (400, 422)


def test_an_item_called_lookup_is_still_found_by_get(guide: Index) -> None:
    assert guide.public.get(f"{BASE}/items/lookup").json()["id"] == "lookup"
