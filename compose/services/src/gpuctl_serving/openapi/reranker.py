"""The reranker's routes."""

from typing import Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from gpuctl_serving.openapi.common import MODEL, Usage
from gpuctl_serving.openapi.operation import Operation, Schema
from gpuctl_serving.reranker.requests import RerankBody

_TEXT: Schema = {"type": "string"}
_NULL: Schema = {"type": "null"}


class Rank(msgspec.Struct):
    """One text's place, in TEI's shape."""

    index: int
    score: float
    #: With `return_text`.
    text: str | UnsetType = UNSET


class Result(msgspec.Struct):
    """One document's place. `document` is what was given: a text as `{"text": ...}`, an object as it was."""

    index: int
    relevance_score: float
    score: float
    document: dict[str, Any] | UnsetType = UNSET


class BilledUnits(msgspec.Struct):
    """Cohere's counting."""

    search_units: int


class CohereTokens(msgspec.Struct):
    """Cohere's counting."""

    input_tokens: int


class Meta(msgspec.Struct):
    """What Cohere's clients read."""

    billed_units: BilledUnits
    tokens: CohereTokens


class Reranked(msgspec.Struct):
    """Superset of Jina's, Cohere's and the app's answers."""

    id: str
    object: Literal["rerank"]
    model: str
    device: str | None
    results: list[Result]
    usage: Usage
    meta: Meta
    #: A smaller model answered in place of the one that cannot run now.
    fallback: bool | UnsetType = UNSET
    #: Candidates that were ranked, when not all of them.
    ranked: int | UnsetType = UNSET


_DOCUMENT: Schema = {
    "anyOf": [
        _TEXT,
        {"type": "object", "required": ["text"], "properties": {"text": _TEXT}},
        {
            "type": "object",
            "required": ["content"],
            "properties": {"content": _TEXT, "metadata": {"type": "object"}},
        },
    ]
}
_NARROW: dict[str, Schema] = {
    "query": {"type": "string", "pattern": r"\S"},
    "max_tokens_per_doc": {"anyOf": [{"type": "integer", "minimum": 1}, _NULL], "default": None},
    "top_n": {"anyOf": [{"type": "integer", "minimum": 1}, _NULL], "default": None},
    "documents": {"anyOf": [{"type": "array", "items": _DOCUMENT, "minItems": 1}, _NULL], "default": None},
    "texts": {"anyOf": [{"type": "array", "items": _TEXT, "minItems": 1}, _NULL], "default": None},
    "truncation_direction": {"enum": ["left", "right", "Left", "Right", None], "default": None},
}
_PATHS = {
    "/rerank": "`texts` get TEI's list, `documents` the object of Jina, Cohere and vLLM.",
    "/": "As `/rerank`, for clients that know only an address.",
    "/v1/rerank": "As `/rerank` (Jina, Cohere).",
    "/v2/rerank": "As `/rerank` (Cohere).",
}

OPERATIONS = [
    *MODEL,
    *(
        Operation(
            "POST",
            path,
            summary,
            RerankBody,
            list[Rank] | Reranked,
            narrow=_NARROW,
            example={"query": "a question", "documents": ["a text", "another text"]},
        )
        for path, summary in _PATHS.items()
    ),
]
