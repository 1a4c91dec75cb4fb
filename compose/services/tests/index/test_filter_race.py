"""A filtered search answers nothing that its filter did not ask for, whatever changes under it."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gpuctl_serving.index import queries
from gpuctl_serving.index.core import Core
from tests.index import direct


@pytest.fixture
def core(tmp_path: Path) -> Iterator[Core]:
    made = direct.open_core(tmp_path)
    colours = {"a": "red", "b": "red", "c": "red", "d": "blue"}
    for at, (name, colour) in enumerate(colours.items()):
        direct.add(made, [direct.item(name, [1, at / 10, 0], {"colour": colour})])
    yield made
    direct.close(made)


def red_while(core: Core, change: Callable[[], Any], times: int) -> list[str]:
    """The two best that are red, when `change` happens so often between the filter and the answer."""
    catalog, left = core.live.catalog, [change] * times
    assert catalog is not None
    search_on = catalog.search_on

    def slowly(*given: Any) -> Any:
        found = search_on(*given)
        if left:
            left.pop()()
        return found

    catalog.search_on = slowly  # type: ignore[method-assign,assignment]
    asked = queries.Asked("default", 2, ("metadata",), wanted={"colour": "red"})
    hits = queries.search(core, catalog, asked, direct.unit_vector([1, 0, 0]).reshape(1, -1), 1).hits[0]
    return [hit["id"] for hit in hits]


def test_an_item_that_stops_matching_under_a_search_is_replaced_by_the_next_that_matches(core: Core) -> None:
    def repaint() -> None:
        direct.add(core, [direct.item("a", [1, 0, 0], {"colour": "blue"})])

    assert red_while(core, repaint, 1) == ["b", "c"]


def test_items_that_change_at_every_look_are_left_out_rather_than_shown(core: Core) -> None:
    painted = iter(range(10))

    def repaint() -> None:
        names = ("a", "b") if next(painted) % 2 else ("c",)
        other = ("c",) if names == ("a", "b") else ("a", "b")
        direct.add(core, [direct.item(name, [1, 0, 0], {"colour": "blue"}) for name in names])
        direct.add(core, [direct.item(name, [1, 0, 0], {"colour": "red"}) for name in other])

    shown = red_while(core, repaint, 10)
    with core.readers.snapshot() as snapshot:
        colours = {
            name: found.metadata["colour"] for name in "abcd" if (found := snapshot.document("default", name))
        }
    assert all(colours[name] == "red" for name in shown)
