"""The reranker: a query and texts in, scores out, in the three dialects the field speaks."""

import secrets
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

from gpuctl_serving.caches.question import Answer
from gpuctl_serving.caches.service import CachedService
from gpuctl_serving.caches.settings import CachedSettings
from gpuctl_serving.engines.batch_thread import ModelChanged
from gpuctl_serving.engines.held import EngineFactory
from gpuctl_serving.engines.loaded_model import LoadedModel
from gpuctl_serving.engines.model_routes import ModelRoutes
from gpuctl_serving.engines.model_service import direction_of, headers_of
from gpuctl_serving.kit.app import Endpoint, create_base_app, json_response, public_paths
from gpuctl_serving.kit.body import read_json
from gpuctl_serving.kit.errors import unavailable
from gpuctl_serving.kit.metrics import Metrics
from gpuctl_serving.kit.settings import Notes
from gpuctl_serving.models.tokenizer import Direction
from gpuctl_serving.reranker.requests import RerankBody, candidates
from gpuctl_serving.reranker.scoring import Scores, cosines, from_cosine, ranking, sigmoid

PATHS = ("/rerank", "/", "/v1/rerank", "/v2/rerank")
#: Models tried for one request while the one that answers changes.
_MODEL_CHANGES = 3


class Reranker(CachedService):
    """One handler for `/rerank` and its aliases."""

    name = "reranker"

    def __init__(self, settings: CachedSettings, notes: Notes, factory: EngineFactory | None = None) -> None:
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
    ) -> tuple[Answer, Scores]:
        """By the model that answers; asked again when another one takes over in the middle."""
        for _ in range(_MODEL_CHANGES):
            model = self.served.answering
            with suppress(ModelChanged):
                return await self._scores_by(model, request, body, texts, direction)
        raise unavailable("The model that answers keeps changing. Try again later.", 5)

    async def _scores_by(
        self, model: LoadedModel, request: Request, body: RerankBody, texts: list[str], direction: Direction
    ) -> tuple[Answer, Scores]:
        truncate, raw = body.truncate is not False, body.raw_scores
        if model.is_cross_encoder:
            pairs = [(body.query, text) for text in texts]
            answer = await self.rows(request, pairs, model, truncate=truncate, direction=direction)
            return answer, answer.rows if raw else sigmoid(answer.rows)
        everything = [(model.manifest.prefix + text,) for text in (body.query, *texts)]
        answer = await self.rows(request, everything, model, truncate=truncate, direction=direction)
        cosine = cosines(answer.rows)
        return answer, cosine if raw else from_cosine(cosine)

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
    settings, notes = CachedSettings.load(env)
    return Reranker(settings, notes, factory)
