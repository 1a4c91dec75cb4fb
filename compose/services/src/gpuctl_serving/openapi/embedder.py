"""The embedder's routes."""

from typing import Literal

import msgspec

from gpuctl_serving.embedder.requests import EmbedBody, OpenAiBody
from gpuctl_serving.embedder.similarity import SimilarityBody
from gpuctl_serving.openapi.common import MODEL, Usage
from gpuctl_serving.openapi.operation import Operation, Schema

_TEXT: Schema = {"type": "string"}
#: Token ids are decoded, so that their refusal can say what to change; they are never an answer.
_TEXTS: Schema = {"anyOf": [_TEXT, {"type": "array", "items": _TEXT, "minItems": 1}]}
_DIMENSIONS: Schema = {"anyOf": [{"type": "integer", "minimum": 1}, {"type": "null"}], "default": None}
_DIRECTION: Schema = {"enum": ["left", "right", "Left", "Right", None], "default": None}


class Embedding(msgspec.Struct):
    """One vector: numbers, or base64 of little-endian float32."""

    object: Literal["embedding"]
    index: int
    embedding: list[float] | str


class Embeddings(msgspec.Struct):
    """OpenAI's answer."""

    object: Literal["list"]
    data: list[Embedding]
    model: str
    usage: Usage


_EMBED = {"inputs": _TEXTS, "dimensions": _DIMENSIONS, "truncation_direction": _DIRECTION}
_OPENAI = {
    "input": _TEXTS,
    "dimensions": _DIMENSIONS,
    "encoding_format": {"enum": ["float", "base64", None], "default": None},
}
_INPUTS = {"inputs": ["a text", "another text"]}
_INPUT = {"input": ["a text", "another text"], "model": "any"}

OPERATIONS = [
    *MODEL,
    Operation(
        "POST",
        "/embed",
        "Vectors of texts (TEI).",
        EmbedBody,
        list[list[float]],
        narrow=_EMBED,
        example=_INPUTS,
    ),
    Operation(
        "POST",
        "/",
        "As `/embed`, for clients that know only an address.",
        EmbedBody,
        list[list[float]],
        narrow=_EMBED,
        example=_INPUTS,
    ),
    Operation(
        "POST",
        "/v1/embeddings",
        "Vectors of texts (OpenAI).",
        OpenAiBody,
        Embeddings,
        narrow=_OPENAI,
        example=_INPUT,
    ),
    Operation(
        "POST",
        "/embeddings",
        "As `/v1/embeddings` (Infinity).",
        OpenAiBody,
        Embeddings,
        narrow=_OPENAI,
        example=_INPUT,
    ),
    Operation(
        "POST",
        "/similarity",
        "How alike a sentence is to others (TEI).",
        SimilarityBody,
        list[float],
        example={"inputs": {"source_sentence": "a text", "sentences": ["another text"]}},
    ),
]
