"""The reranker: a query and texts in, scores out, in the three dialects the field speaks."""

import secrets
from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

from gpuctl_serving.engines.model_routes import ModelRoutes
from gpuctl_serving.engines.held import EngineFactory
from gpuctl_serving.engines.model_service import ModelService, direction_of, headers_of
from gpuctl_serving.engines.served_model import Computed
from gpuctl_serving.engines.settings import ModelSettings
from gpuctl_serving.kit.app import Endpoint, create_base_app, json_response, public_paths
from gpuctl_serving.kit.body import read_json
from gpuctl_serving.kit.disconnect import unless_gone
from gpuctl_serving.kit.metrics import Metrics
from gpuctl_serving.kit.settings import Notes
from gpuctl_serving.models.tokenizer import Direction
from gpuctl_serving.reranker.requests import RerankBody, candidates
from gpuctl_serving.reranker.scoring import Scores, cosines, from_cosine, ranking, sigmoid

PATHS = ("/rerank", "/", "/v1/rerank", "/v2/rerank")


class Reranker(ModelService):
    """One handler for `/rerank` and its aliases."""

    name = "reranker"

    def __init__(self, settings: ModelSettings, notes: Notes, factory: EngineFactory | None = None) -> None:
        endpoints = [*(Endpoint("POST", path, self.rerank) for path in PATHS), *ModelRoutes(self).endpoints]
        super().__init__(settings, notes, Metrics(public_paths(endpoints), settings.slo_ms), factory)
        self._app = create_base_app(self, endpoints, self.metrics)

    @property
    def app(self) -> ASGIApp:
        """See HostedService."""
        return self._app

    def scoring(self) -> str | None:
        """`cross-encoder`: the model reads query and text together. `bi-encoder`: cosine of embeddings."""
        if self.served.manifest is None:
            return None
        return "cross-encoder" if self.served.manifest.kind == "cross-encoder" else "bi-encoder"

    def model_type(self) -> dict[str, Any]:
        """See ModelService."""
        if self.scoring() == "cross-encoder":
            return {"reranker": {"id2label": {"0": "LABEL_0"}, "label2id": {"LABEL_0": 0}}}
        return super().model_type()

    async def rerank(self, request: Request) -> Response:
        """`texts` get TEI's bare list; `documents` get an object."""
        body = await read_json(request, RerankBody)
        found = candidates(body)
        self.check_items(len(found.texts), found.param)
        direction = direction_of(body.truncation_direction)
        computed, scores = await self._scores(request, body, found.texts, direction)
        headers = headers_of(computed, request)
        order = ranking(scores)
        if body.texts is not None:
            return json_response(_tei(body, order, scores), headers=headers)
        return json_response(
            self._object(body, order[: body.top_n], scores, computed.tokens), headers=headers
        )

    async def _scores(
        self, request: Request, body: RerankBody, texts: list[str], direction: Direction
    ) -> tuple[Computed, Scores]:
        tokenizer, truncate = self.served.tokenizer, body.truncate is not False
        if self.scoring() == "cross-encoder":
            work = self.served.compute(
                [len(body.query) + len(text) for text in texts],
                lambda: tokenizer.pairs(body.query, texts, direction),
                truncate=truncate,
            )
            computed = await unless_gone(request, work)
            return computed, computed.rows if body.raw_scores else sigmoid(computed.rows)
        prefix = self.served.loaded.prefix
        everything = [prefix + text for text in (body.query, *texts)]
        work = self.served.compute(
            [*map(len, everything)], lambda: tokenizer.texts(everything, direction), truncate=truncate
        )
        computed = await unless_gone(request, work)
        cosine = cosines(computed.rows)
        return computed, cosine if body.raw_scores else from_cosine(cosine)

    def _object(self, body: RerankBody, order: list[int], scores: Scores, tokens: int) -> dict[str, Any]:
        """Superset of Jina's and Cohere's answers; each result echoes the document it was given."""
        documents = body.documents or []
        results = []
        for index in order:
            score = float(scores[index])
            result: dict[str, Any] = {"index": index, "relevance_score": score, "score": score}
            if body.return_documents is not False:
                item = documents[index]
                result["document"] = {"text": item} if isinstance(item, str) else item
            results.append(result)
        return {
            "id": "rerank-" + secrets.token_hex(8),
            "object": "rerank",
            "model": self.model,
            "device": self.device,
            "results": results,
            "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
            "meta": {"billed_units": {"search_units": 1}, "tokens": {"input_tokens": tokens}},
        }


def _tei(body: RerankBody, order: list[int], scores: Scores) -> list[dict[str, Any]]:
    texts = body.texts or []
    return [
        {"index": i, "score": float(scores[i]), **({"text": texts[i]} if body.return_text else {})}
        for i in order
    ]


def create_service(env: Mapping[str, str], factory: EngineFactory | None = None) -> Reranker:
    """The reranker, not loaded. Raises SettingsError."""
    settings, notes = ModelSettings.load(env)
    return Reranker(settings, notes, factory)
