"""What must hold of a request: limits, and the sentences that say which one was passed."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from gpuctl_serving.index.ann.plan import GPU_MAX_K, GPU_MAX_NPROBE
from gpuctl_serving.index.ids import LARGEST, SMALLEST, ItemId
from gpuctl_serving.index.requests import Add, Delete, Get, Item, Lookup, Remove, Rename, Search, Values
from gpuctl_serving.index.vectors import Vectors, from_base64, from_numbers, rows_from_base64, unit, units
from gpuctl_serving.kit.body import written
from gpuctl_serving.kit.errors import empty, invalid

MAX_NAME = 512
MAX_TEXT = 1_000_000
MAX_METADATA = 64 * 1024
#: FAISS's own limit on a GPU; the same everywhere, so that a request works wherever the index runs.
MAX_K = GPU_MAX_K
#: Results of one search request, over all its queries.
MAX_RESULTS = 100_000
#: Ids one look-up may name.
MAX_LOOKUP = 10_000
#: Values one key of a filter may list.
MAX_ANY_OF = 1000


def check_add(add: Add, max_items: int) -> list[Vectors | None]:
    """The items' unit vectors; None where a text is to be embedded. Raises what is wrong, naming the item."""
    _namespace(add.namespace)
    _count(add.items, "items", max_items)
    seen: set[ItemId] = set()
    for at, item in enumerate(add.items):
        name = f"items[{at}]"
        _id(item.id, f"{name}.id")
        if item.id in seen:
            raise invalid(f"{name}.id {item.id!r} is twice in this request. Send each id once.", f"{name}.id")
        seen.add(item.id)
        if item.text is not None and len(item.text) > MAX_TEXT:
            raise invalid(
                f"{name}.text has {len(item.text)} characters; at most {MAX_TEXT} fit. Split it into chunks.",
                name,
            )
        if len(written(item.metadata, f"{name}.metadata")) > MAX_METADATA:
            raise invalid(
                f"{name}.metadata is larger than {MAX_METADATA} bytes. Put long texts into `text`.",
                f"{name}.metadata",
            )
    return [_item_vector(item, f"items[{at}]") for at, item in enumerate(add.items)]


def _item_vector(item: Item, name: str) -> Vectors | None:
    if item.vector is not None and item.vectorBase64 is not None:
        raise invalid(f"{name} has both `vector` and `vectorBase64`. Send one of them.", name)
    if item.vector is not None:
        return unit(from_numbers(item.vector, f"{name}.vector"), f"{name}.vector")
    if item.vectorBase64 is not None:
        return unit(from_base64(item.vectorBase64, f"{name}.vectorBase64"), f"{name}.vectorBase64")
    if not (item.text or "").strip():
        raise invalid(
            f"{name} has neither a vector nor a text. Send `vector`, `vectorBase64` or `text`.", name
        )
    return None


def check_search(search: Search, max_items: int) -> Vectors | None:
    """The queries' unit vectors as rows; None when a text is to be embedded."""
    _namespace(search.namespace)
    if not 1 <= search.k <= MAX_K:
        raise invalid(f"k is {search.k}; it must be from 1 to {MAX_K}.", "k")
    _effort(search)
    _filter(search.filter or {})
    given = [name for name in _QUERIES if getattr(search, name) is not None]
    if len(given) != 1:
        have = " and ".join(given) or "none of them"
        raise invalid(
            "Send one of `vector`, `vectorBase64`, `vectors`, `vectorsBase64`, `text` or `texts`; "
            f"this request has {have}."
        )
    if search.text is not None or search.texts is not None:
        _texts(search, max_items)
        return None
    if search.vector is not None:
        return unit(from_numbers(search.vector, "vector"), "vector").reshape(1, -1)
    if search.vectorBase64 is not None:
        return unit(from_base64(search.vectorBase64, "vectorBase64"), "vectorBase64").reshape(1, -1)
    name = given[0]
    vectors: Sequence[list[float] | str] = getattr(search, name)
    _results(len(vectors), name, search.k)
    _count(vectors, name, max_items)
    return _matrix(vectors, name)


_QUERIES = ("vector", "vectorBase64", "vectors", "vectorsBase64", "text", "texts")


def _effort(search: Search) -> None:
    if search.nprobe is not None and search.recall is not None:
        raise invalid("Send `nprobe` or `recall`, not both: one follows from the other.", "nprobe")
    if search.nprobe is not None and not 1 <= search.nprobe <= GPU_MAX_NPROBE:
        raise invalid(f"nprobe is {search.nprobe}; it must be from 1 to {GPU_MAX_NPROBE}.", "nprobe")
    if search.recall is not None and not 0 < search.recall <= 1:
        raise invalid(f"recall is {search.recall}; it must be above 0 and at most 1.", "recall")


def _texts(search: Search, max_items: int) -> None:
    texts, name = search.wanted_texts, "text" if search.text is not None else "texts"
    _count(texts, name, max_items)
    _results(len(texts), name, search.k)
    for at, text in enumerate(texts):
        where = name if name == "text" else f"texts[{at}]"
        if not text.strip():
            raise empty(f"{where} is empty. Send words to search for.", where)
        if len(text) > MAX_TEXT:
            raise invalid(f"{where} has {len(text)} characters; at most {MAX_TEXT} fit.", where)


def _results(queries: int, name: str, k: int) -> None:
    if queries * k > MAX_RESULTS:
        raise invalid(
            f"{queries} {name} with k={k} ask for more than {MAX_RESULTS} results. Send fewer at once.", name
        )


def _matrix(vectors: Sequence[list[float] | str], name: str) -> Vectors:
    together = rows_from_base64(vectors) if isinstance(vectors[0], str) else None
    if together is not None:
        return units(together, name)
    rows = [
        from_base64(vector, f"{name}[{at}]")
        if isinstance(vector, str)
        else from_numbers(vector, f"{name}[{at}]")
        for at, vector in enumerate(vectors)
    ]
    lengths = sorted({len(row) for row in rows})
    if len(lengths) > 1:
        raise invalid(f"{name} have different dimensions: {', '.join(map(str, lengths))}.", name)
    return units(np.stack(rows), name)


def check_get(get: Get, max_items: int) -> None:
    """Raises what is wrong with a request for items."""
    _namespace(get.namespace)
    _count(get.ids, "ids", max_items)
    for at, one in enumerate(get.ids):
        _id(one, f"ids[{at}]")


def check_delete(delete: Delete, max_items: int) -> None:
    """Raises what is wrong with a delete."""
    _namespace(delete.namespace)
    _count(delete.ids, "ids", max_items)
    for at, one in enumerate(delete.ids):
        _id(one, f"ids[{at}]")


def check_rename(body: Rename) -> None:
    """Raises what is wrong with a renaming."""
    for name in (body.source, body.target, body.keep):
        if name is not None:
            _namespace(name)
    if body.source == body.target:
        raise invalid("`from` and `to` are the same namespace. Name two.", "to")


def check_remove(body: Remove) -> None:
    """Raises what is wrong with a removal."""
    _namespace(body.namespace)


def check_lookup(lookup: Lookup) -> None:
    """Raises what is wrong with a look-up."""
    _namespace(lookup.namespace)
    if (lookup.ids is None) == (lookup.filter is None):
        raise invalid("Send either `ids` or `filter`.")
    if lookup.filter is not None:
        if not lookup.filter:
            raise empty("filter is empty. Name at least one key of the metadata.", "filter")
        _filter(lookup.filter)
    if lookup.ids is not None:
        _count(lookup.ids, "ids", MAX_LOOKUP)


def check_values(values: Values) -> None:
    """Raises what is wrong with a question for values."""
    _namespace(values.namespace)
    if not values.key:
        raise empty("key is empty. Name a key of the metadata.", "key")


def check_item_name(namespace: str, name: str) -> None:
    """Raises what is wrong with a namespace or an id."""
    _namespace(namespace)
    _id(name, "id")


def _filter(wanted: dict[str, Any]) -> None:
    for key, value in wanted.items():
        values = value if isinstance(value, list) else [value]
        if any(isinstance(one, dict | list) for one in values):
            raise invalid(
                f"filter.{key} is an object. A filter compares text, numbers, true, false and null; "
                "a list means any of its values.",
                "filter",
            )
        if len(values) > MAX_ANY_OF:
            raise invalid(
                f"filter.{key} lists {len(values)} values; at most {MAX_ANY_OF} are allowed.", "filter"
            )


def _count(values: Sequence[object], name: str, most: int) -> None:
    if not values:
        raise empty(f"{name} is empty. Send at least one.", name)
    if len(values) > most:
        raise invalid(
            f"{name} has {len(values)} entries; at most {most} are allowed (GPUCTL_MAX_ITEMS). "
            "Send several requests.",
            name,
        )


def _namespace(name: str) -> None:
    if not name or len(name) > MAX_NAME or not name.isprintable():
        raise invalid(f"namespace must have 1 to {MAX_NAME} printable characters.", "namespace")


def _id(name: ItemId, where: str) -> None:
    if isinstance(name, int):
        if not SMALLEST <= name <= LARGEST:
            raise invalid(f"{where} is {name}; an id that is a number must fit 64 bits.", where)
        return
    if not name or len(name) > MAX_NAME or not name.isprintable():
        raise invalid(f"{where} must have 1 to {MAX_NAME} printable characters.", where)
