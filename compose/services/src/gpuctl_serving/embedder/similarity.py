"""TEI's `/similarity`: how alike one sentence is to others, without the vectors."""

from collections.abc import Awaitable, Callable

import msgspec
import numpy as np
from starlette.requests import Request
from starlette.responses import Response

from gpuctl_serving.caches.question import Answer
from gpuctl_serving.engines.model_service import ModelService, direction_of, headers_of
from gpuctl_serving.kit.app import json_response
from gpuctl_serving.kit.body import read_json
from gpuctl_serving.models.probing import unit
from gpuctl_serving.models.tokenizer import Direction


class Sentences(msgspec.Struct):
    """What is compared with what."""

    source_sentence: str
    sentences: list[str]


class SimilarityParameters(msgspec.Struct):
    """How the sentences are read."""

    truncate: bool | None = None
    truncation_direction: str | None = None
    prompt_name: str | None = None


class SimilarityBody(msgspec.Struct):
    """`POST /similarity`, as TEI has it."""

    inputs: Sentences
    parameters: SimilarityParameters | None = None


#: (request, texts, prompt name, truncate, direction) -> their vectors.
Compute = Callable[[Request, list[str], str | None, bool, Direction], Awaitable[Answer]]


class Similarity:
    """The handler; vectors come from the embedder's own way, caches included."""

    def __init__(self, service: ModelService, compute: Compute) -> None:
        self._service, self._compute = service, compute

    async def similarity(self, request: Request) -> Response:
        """The cosine of the source sentence to each of the others."""
        body = await read_json(request, SimilarityBody)
        how = body.parameters or SimilarityParameters()
        direction = direction_of(how.truncation_direction)
        sentences = body.inputs.sentences
        self._service.check_items(len(sentences), "sentences")
        texts = [body.inputs.source_sentence, *sentences]
        computed = await self._compute(request, texts, how.prompt_name, how.truncate is not False, direction)
        vectors = unit(computed.rows)
        cosines = np.clip(vectors[1:] @ vectors[0], -1.0, 1.0)
        return json_response(np.ascontiguousarray(cosines), headers=headers_of(computed, request))
