"""The documents of all services."""

from collections.abc import Mapping, Sequence
from typing import Any

from gpuctl_serving.openapi import embedder, index, reranker
from gpuctl_serving.openapi.document import document
from gpuctl_serving.openapi.operation import Operation

OPERATIONS: Mapping[str, Sequence[Operation]] = {
    "embedder": embedder.OPERATIONS,
    "reranker": reranker.OPERATIONS,
    "index": index.OPERATIONS,
}
_WORDS = {
    "embedder": "Texts in, vectors out, in the shapes of TEI and OpenAI.",
    "reranker": "A query and documents in, scores out, in the shapes of TEI, Jina, Cohere and vLLM.",
    "index": "A vector index with texts and metadata: FAISS over a database that loses nothing.",
}


def documents() -> dict[str, dict[str, Any]]:
    """Service -> its OpenAPI document."""
    return {
        name: document(f"gpuctl {name}", _WORDS[name], operations) for name, operations in OPERATIONS.items()
    }
