"""The embedder: texts in, vectors out."""

import base64
from collections.abc import Mapping, Sequence

import numpy as np
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

from gpuctl_serving.caches.question import Answer
from gpuctl_serving.caches.service import CachedService
from gpuctl_serving.caches.settings import CachedSettings
from gpuctl_serving.embedder.requests import EmbedBody, OpenAiBody, texts_of, wants_base64
from gpuctl_serving.embedder.similarity import Similarity
from gpuctl_serving.engines.held import EngineFactory
from gpuctl_serving.engines.model_routes import ModelRoutes, prompt_of
from gpuctl_serving.engines.model_service import direction_of, headers_of
from gpuctl_serving.engines.protocol import Rows
from gpuctl_serving.kit.app import Endpoint, create_base_app, json_response, public_paths
from gpuctl_serving.kit.body import read_json
from gpuctl_serving.kit.errors import LoadFailed, invalid
from gpuctl_serving.kit.header_text import to_header
from gpuctl_serving.kit.metrics import Metrics
from gpuctl_serving.kit.settings import Notes
from gpuctl_serving.models.probing import unit
from gpuctl_serving.models.tokenizer import Direction


class Embedder(CachedService):
    """`/embed`, `/`, `/similarity` (TEI), `/v1/embeddings` and `/embeddings` (OpenAI)."""

    name = "embedder"

    def __init__(self, settings: CachedSettings, notes: Notes, factory: EngineFactory | None = None) -> None:
        endpoints = [
            Endpoint("POST", "/embed", self.embed),
            Endpoint("POST", "/", self.embed),
            Endpoint("POST", "/v1/embeddings", self.openai),
            Endpoint("POST", "/embeddings", self.openai),
            Endpoint("POST", "/similarity", Similarity(self, self._vectors).similarity),
            *ModelRoutes(self).endpoints,
        ]
        super().__init__(settings, notes, Metrics(public_paths(endpoints), settings.slo_ms), factory)
        self._app = create_base_app(self, endpoints, self.metrics)

    @property
    def app(self) -> ASGIApp:
        """See HostedService."""
        return self._app

    def load_parts(self) -> None:
        """See ServiceBase."""
        super().load_parts()
        if self.served.loaded.kind != "embedder":
            raise LoadFailed(f"{self.model} is a cross-encoder, which gives no vectors. Choose an embedder.")

    async def embed(self, request: Request) -> Response:
        """TEI: a bare list of vectors."""
        body = await read_json(request, EmbedBody)
        texts = texts_of(body.inputs, "inputs")
        self.check_items(len(texts), "inputs")
        width = self._width(body.dimensions)
        computed = await self._compute(
            request,
            self._with_prompt(texts, body.prompt_name),
            truncate=body.truncate is not False,
            direction=direction_of(body.truncation_direction),
        )
        normalize = self.served.loaded.normalize if body.normalize is None else body.normalize
        return json_response(
            _finish(computed.rows, width, normalize), headers=headers_of(computed, request) | self._space()
        )

    async def openai(self, request: Request) -> Response:
        """OpenAI: a list object, floats or base64."""
        body = await read_json(request, OpenAiBody)
        texts = texts_of(body.input, "input")
        self.check_items(len(texts), "input")
        width, in_base64 = self._width(body.dimensions), wants_base64(body.encoding_format)
        computed = await self._compute(
            request,
            self._with_prompt(texts, None),
            truncate=body.truncate is not False,
            direction="right",
        )
        rows = _finish(computed.rows, width, self.served.loaded.normalize)
        vectors = _base64(rows) if in_base64 else rows
        content = {
            "object": "list",
            "data": [{"object": "embedding", "index": i, "embedding": v} for i, v in enumerate(vectors)],
            "model": self.model,
            "usage": {"prompt_tokens": computed.tokens, "total_tokens": computed.tokens},
        }
        return json_response(content, headers=headers_of(computed, request))

    def _space(self) -> dict[str, str]:
        """Says whose vectors these are: an index that asks during a switch must not mix two models."""
        generation = self.served.manifest and self.served.manifest.generation
        return {"x-gpuctl-generation": to_header(generation)} if generation else {}

    async def _compute(
        self, request: Request, texts: list[str], *, truncate: bool, direction: Direction
    ) -> Answer:
        inputs = [(text,) for text in texts]
        return await self.rows(request, inputs, self.served.answering, truncate=truncate, direction=direction)

    async def _vectors(
        self, request: Request, texts: list[str], prompt: str | None, truncate: bool, direction: Direction
    ) -> Answer:
        return await self._compute(
            request, self._with_prompt(texts, prompt), truncate=truncate, direction=direction
        )

    def _with_prompt(self, texts: list[str], name: str | None) -> list[str]:
        prefix = prompt_of(self.served.loaded, name, self.served.loaded.prefix)
        return [prefix + text for text in texts] if prefix else texts

    def _width(self, dimensions: int | None) -> int:
        full = self.served.loaded.dimension or 0
        if dimensions is None:
            return full
        if not 1 <= dimensions <= full:
            raise invalid(f"`dimensions` is {dimensions}; this model gives 1 to {full}.", "dimensions")
        return dimensions


def _finish(rows: Rows, width: int, normalize: bool) -> Rows:
    shortened = rows[:, :width] if width < rows.shape[1] else rows
    return np.ascontiguousarray(unit(shortened) if normalize else shortened)


def _base64(rows: Rows) -> Sequence[str]:
    return [base64.b64encode(row.astype("<f4").tobytes()).decode() for row in rows]


def create_service(env: Mapping[str, str], factory: EngineFactory | None = None) -> Embedder:
    """The embedder, not loaded. Raises SettingsError."""
    settings, notes = CachedSettings.load(env)
    return Embedder(settings, notes, factory)
