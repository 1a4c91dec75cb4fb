"""The index's routes."""

from typing import Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from gpuctl_serving.index.ids import ItemId
from gpuctl_serving.index.maintenance import State
from gpuctl_serving.index.maintenance_routes import Wait
from gpuctl_serving.index.requests import Add, Delete, Get, Lookup, Remove, Rename, Search, Values
from gpuctl_serving.openapi.common import Health, probes
from gpuctl_serving.openapi.operation import BODY_ERRORS, ERRORS, Operation, Schema

BASE = "/api/v1/vector-store"
_WRITE_ERRORS = (*BODY_ERRORS, 409, 507)
_NAME: Schema = {"type": "string", "minLength": 1, "maxLength": 512}
_K: Schema = {"type": "integer", "minimum": 1, "maximum": 2048, "default": 10}


class Hit(msgspec.Struct):
    """One result; text, metadata and vector as `include` asks for."""

    id: ItemId
    score: float
    text: str | UnsetType | None = UNSET
    metadata: dict[str, Any] | UnsetType = UNSET
    vector: list[float] | UnsetType | None = UNSET
    vectorBase64: str | UnsetType | None = UNSET


class Found(msgspec.Struct):
    """The best of each query, by score, then id."""

    device: str
    indexType: str
    results: list[list[Hit]]


class Added(msgspec.Struct):
    """What an add did; `sequence` is the number of the change."""

    added: int
    updated: int
    sequence: int


class Deleted(msgspec.Struct):
    """What a delete did."""

    deleted: int
    sequence: int


class OneItem(msgspec.Struct):
    """One stored item."""

    namespace: str
    id: ItemId
    text: str | None
    metadata: dict[str, Any]
    sequence: int


class Got(msgspec.Struct):
    """The items that are there, and the ids of those that are not."""

    namespace: str
    items: list[dict[str, Any]]
    missing: list[ItemId]


class LookedUp(msgspec.Struct):
    """Id -> metadata of the items that are there."""

    items: dict[str, dict[str, Any]]


class TextValues(msgspec.Struct):
    """The different texts under a key, in order."""

    values: list[str]


class Renamed(msgspec.Struct):
    """How many items have the name now."""

    items: int
    sequence: int


class JobFacts(msgspec.Struct):
    """One piece of long work."""

    job: str
    kind: str
    state: State
    phase: str
    done: int
    of: int
    seconds: float
    result: dict[str, Any] | None
    error: str | None


class Jobs(msgspec.Struct):
    """The latest jobs."""

    jobs: list[JobFacts]


class ReplicaFacts(msgspec.Struct):
    """The GPU's copy of the index. In every state but `searching` the CPU answers."""

    state: Literal["off", "starting", "waiting", "copying", "searching", "failed"]
    #: The device that its process has open.
    device: Literal["cuda"] | None
    #: When it came to be so.
    since: str
    #: One word, while something is wrong.
    reason: str | None
    #: Why it does not search.
    detail: str | None
    retry_in_seconds: float | None


class IndexHealth(Health):
    """Of an index: what its GPU's copy does."""

    replica: ReplicaFacts | None


class IndexInfo(msgspec.Struct):
    """What is served, by what."""

    service: str
    version: str
    state: str
    status: str
    device: str | None
    device_reason: str | None
    reason: str | None
    replica: ReplicaFacts | None
    engine: str
    indexType: str
    metric: str
    dimension: int | None
    generation: str | None
    writer: bool
    max_items: int
    aliases: list[str]
    warnings: list[str]


_LONG_WORK = {
    "snapshot": "Writes a snapshot now.",
    "compact": "Gives back the space of what was deleted.",
    "rebuild": "Makes this instance's memory again from the database.",
    "verify": "Checks this instance and what is on disk.",
}

OPERATIONS = [
    *probes(IndexHealth),
    Operation("GET", "/info", "What is served, by what.", None, IndexInfo, (401,)),
    Operation(
        "POST",
        f"{BASE}/add",
        "Adds items, or replaces them with `upsert`; vectors are given or made by the embedder.",
        Add,
        Added,
        _WRITE_ERRORS,
        example={"items": [{"id": "a", "text": "a text", "metadata": {"source": "a.md"}}]},
    ),
    Operation(
        "POST",
        f"{BASE}/delete",
        "Deletes items by id.",
        Delete,
        Deleted,
        _WRITE_ERRORS,
        example={"ids": ["a"]},
    ),
    Operation(
        "POST",
        f"{BASE}/search",
        "The nearest items, by vector or by text.",
        Search,
        Found,
        narrow={"k": _K},
        example={"text": "a question", "k": 3},
    ),
    Operation("POST", f"{BASE}/items/get", "Items by their ids.", Get, Got, example={"ids": ["a"]}),
    Operation(
        "POST",
        f"{BASE}/items/lookup",
        "Which items are there, by ids or by a filter.",
        Lookup,
        LookedUp,
        example={"ids": ["a"]},
    ),
    Operation(
        "POST",
        f"{BASE}/items/values",
        "The different texts under a key of the metadata.",
        Values,
        TextValues,
        example={"key": "source"},
    ),
    Operation(
        "GET",
        f"{BASE}/items/{{id:path}}",
        "One item.",
        None,
        OneItem,
        (400, 401, 404, 422, 429, 500, 503),
        query={"namespace": _NAME | {"default": "default"}},
    ),
    Operation(
        "POST",
        f"{BASE}/namespaces/rename",
        "Gives a namespace another name, and keeps what had it.",
        Rename,
        Renamed,
        (*_WRITE_ERRORS, 404),
        example={"from": "new", "to": "default", "keep": "old"},
    ),
    Operation(
        "POST",
        f"{BASE}/namespaces/remove",
        "Removes a namespace with everything in it.",
        Remove,
        JobFacts,
        (*BODY_ERRORS, 404, 409),
        also=(202,),
        example={"namespace": "default~before-1c0ffee1"},
    ),
    *(
        Operation(
            "POST",
            f"{BASE}/{kind}",
            summary,
            Wait,
            JobFacts,
            (*BODY_ERRORS, 409),
            also=(202,),
            example={"wait": True},
            needs_body=False,
        )
        for kind, summary in _LONG_WORK.items()
    ),
    Operation("GET", f"{BASE}/jobs", "The latest jobs.", None, Jobs, ERRORS),
    Operation("GET", f"{BASE}/jobs/{{job}}", "One job.", None, JobFacts, (401, 404, 429, 503)),
    Operation(
        "GET",
        f"{BASE}/backup",
        "Everything, as a tar archive.",
        errors=(*ERRORS, 409),
        media="application/x-tar",
    ),
    Operation("GET", f"{BASE}/stats", "Sizes, types and state.", None, dict[str, Any], ERRORS),
]
