"""What clients may send: shapes, limits, and the sentences that say which limit was passed."""

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

from gpuctl_serving.index.vectors import Vectors, from_base64, from_numbers, unit
from gpuctl_serving.kit.body import written
from gpuctl_serving.kit.errors import empty, invalid

MAX_NAME = 512
MAX_TEXT = 1_000_000
MAX_METADATA = 64 * 1024
#: FAISS's own limit on a GPU; the same everywhere, so that a request works wherever the index runs.
MAX_K = 2048
#: Results of one search request, over all its queries.
MAX_RESULTS = 100_000
#: Ids one look-up may name.
MAX_LOOKUP = 10_000
#: Values one key of a filter may list.
MAX_ANY_OF = 1000


class Item(msgspec.Struct, forbid_unknown_fields=True):
    """One item of an add."""

    id: str
    vector: list[float] | None = None
    vectorBase64: str | None = None
    text: str | None = None
    metadata: dict[str, Any] = {}


class Add(msgspec.Struct, forbid_unknown_fields=True):
    """`POST add`."""

    items: list[Item]
    namespace: str = "default"
    upsert: bool = False


class Search(msgspec.Struct, forbid_unknown_fields=True):
    """`POST search`."""

    namespace: str = "default"
    vector: list[float] | None = None
    vectorBase64: str | None = None
    vectors: list[list[float]] | None = None
    text: str | None = None
    k: int = 10
    filter: dict[str, Any] | None = None


class Delete(msgspec.Struct, forbid_unknown_fields=True):
    """`POST delete`."""

    ids: list[str]
    namespace: str = "default"


class Lookup(msgspec.Struct, forbid_unknown_fields=True):
    """`POST items/lookup`."""

    namespace: str = "default"
    ids: list[str] | None = None
    filter: dict[str, Any] | None = None


class Values(msgspec.Struct, forbid_unknown_fields=True):
    """`POST items/values`."""

    key: str
    namespace: str = "default"
    prefix: str = ""


class Ensure(msgspec.Struct, forbid_unknown_fields=True):
    """`POST /private/generations/ensure`, and the `ensure` of a hold."""

    key: str
    dimension: int
    embedder: str


class Hold(msgspec.Struct, forbid_unknown_fields=True):
    """`POST /private/writer/hold`."""

    holdMs: int = 1000
    successor: str = ""
    ensure: Ensure | None = None


class Take(msgspec.Struct, forbid_unknown_fields=True):
    """`POST /private/writer/take`."""

    deadlineMs: int = 1000


class Prune(msgspec.Struct, forbid_unknown_fields=True):
    """`POST /private/generations/prune`."""

    keep: list[str]


def check_add(add: Add, max_items: int) -> list[Vectors | None]:
    """The items' unit vectors; None where a text is to be embedded. Raises what is wrong, naming the item."""
    _namespace(add.namespace)
    _count(add.items, "items", max_items)
    seen: set[str] = set()
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
    _filter(search.filter or {})
    given = [
        name for name in ("vector", "vectorBase64", "vectors", "text") if getattr(search, name) is not None
    ]
    if len(given) != 1:
        have = " and ".join(given) or "none of them"
        raise invalid(f"Send one of `vector`, `vectorBase64`, `vectors` or `text`; this request has {have}.")
    if search.text is not None:
        if not search.text.strip():
            raise empty("text is empty. Send words to search for.", "text")
        if len(search.text) > MAX_TEXT:
            raise invalid(f"text has {len(search.text)} characters; at most {MAX_TEXT} fit.", "text")
        return None
    if search.vector is not None:
        return unit(from_numbers(search.vector, "vector"), "vector").reshape(1, -1)
    if search.vectorBase64 is not None:
        return unit(from_base64(search.vectorBase64, "vectorBase64"), "vectorBase64").reshape(1, -1)
    return _matrix(search.vectors or [], search.k, max_items)


def _matrix(vectors: list[list[float]], k: int, max_items: int) -> Vectors:
    _count(vectors, "vectors", max_items)
    if len(vectors) * k > MAX_RESULTS:
        raise invalid(
            f"{len(vectors)} vectors with k={k} ask for more than {MAX_RESULTS} results. Send fewer at once.",
            "vectors",
        )
    lengths = sorted({len(vector) for vector in vectors})
    if len(lengths) > 1:
        raise invalid(f"vectors have different dimensions: {', '.join(map(str, lengths))}.", "vectors")
    return np.stack(
        [unit(from_numbers(vector, f"vectors[{at}]"), f"vectors[{at}]") for at, vector in enumerate(vectors)]
    )


def check_delete(delete: Delete, max_items: int) -> None:
    """Raises what is wrong with a delete."""
    _namespace(delete.namespace)
    _count(delete.ids, "ids", max_items)
    for at, one in enumerate(delete.ids):
        _id(one, f"ids[{at}]")


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


def _id(name: str, where: str) -> None:
    if not name or len(name) > MAX_NAME or not name.isprintable():
        raise invalid(f"{where} must have 1 to {MAX_NAME} printable characters.", where)
