"""What clients may send: the bodies' shapes. What else must hold of them is in `checks`."""

from typing import Any, Literal

import msgspec

from gpuctl_serving.index.ids import ItemId

Include = Literal["text", "metadata", "vector"]
Encoding = Literal["float", "base64"]


class Item(msgspec.Struct, forbid_unknown_fields=True):
    """One item of an add."""

    id: ItemId
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
    vectorsBase64: list[str] | None = None
    text: str | None = None
    texts: list[str] | None = None
    k: int = 10
    filter: dict[str, Any] | None = None
    #: How hard inverted lists look: so many lists, or until this share of the true neighbours is found.
    nprobe: int | None = None
    recall: float | None = None
    #: What comes with the id and the score of a result.
    include: tuple[Include, ...] = ("text", "metadata")
    encoding: Encoding = "float"

    @property
    def wanted_texts(self) -> list[str]:
        """The texts to search for."""
        return [self.text] if self.text is not None else self.texts or []


class Delete(msgspec.Struct, forbid_unknown_fields=True):
    """`POST delete`."""

    ids: list[ItemId]
    namespace: str = "default"


class Get(msgspec.Struct, forbid_unknown_fields=True):
    """`POST items/get`."""

    ids: list[ItemId]
    namespace: str = "default"
    include: tuple[Include, ...] = ("text", "metadata")
    encoding: Encoding = "float"


class Rename(msgspec.Struct, forbid_unknown_fields=True, rename={"source": "from", "target": "to"}):
    """`POST namespaces/rename`."""

    source: str
    target: str
    #: The name under which what `to` holds now is kept.
    keep: str | None = None


class Remove(msgspec.Struct, forbid_unknown_fields=True):
    """`POST namespaces/remove`."""

    namespace: str
    #: False: answered at once with the job.
    wait: bool = True


class Lookup(msgspec.Struct, forbid_unknown_fields=True):
    """`POST items/lookup`."""

    namespace: str = "default"
    ids: list[ItemId] | None = None
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
