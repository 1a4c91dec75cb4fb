"""The reranker: a query and texts in, scores out, in the three dialects the field speaks."""

import asyncio
import secrets
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from prometheus_client import Counter
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

from gpuctl_serving.caches.question import Answer
from gpuctl_serving.caches.service import CachedService
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
from gpuctl_serving.models.prompts import passage_prompt, prompt_of
from gpuctl_serving.models.tokenizer import Direction
from gpuctl_serving.reranker.requests import RerankBody, candidates
from gpuctl_serving.reranker.scoring import Scores, cosines, from_cosine, ranking, sigmoid
from gpuctl_serving.reranker.settings import RerankSettings
from gpuctl_serving.reranker.shedding import affordable, with_unranked

PATHS = ("/rerank", "/", "/v1/rerank", "/v2/rerank")
#: Models tried for one request while the one that answers changes.
_MODEL_CHANGES = 3
#: Share of a request's deadline that a substitute may compute for one request.
_SHARE_OF_DEADLINE = 1 / 3


class Reranker(CachedService):
    """One handler for `/rerank` and its aliases."""

    name = "reranker"
    settings: RerankSettings

    def __init__(self, settings: RerankSettings, notes: Notes, factory: EngineFactory | None = None) -> None:
        endpoints = [*(Endpoint("POST", path, self.rerank) for path in PATHS), *ModelRoutes(self).endpoints]
        super().__init__(settings, notes, Metrics(public_paths(endpoints), settings.slo_ms), factory)
        registry = self.metrics.registry
        self._fallback_answers = Counter(
            "gpuctl_fallback_answers", "Answers of the smaller model.", registry=registry
        )
        self._unranked = Counter(
            "gpuctl_unranked", "Candidates that were left unranked to shed load.", registry=registry
        )
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
        texts = found.texts
        if (most := body.max_tokens_per_doc) is not None and most < self.served.max_tokens:
            texts = await asyncio.to_thread(self.served.tokenizer.shortened, texts, most)
        ranked = await self._ranked(request, body, texts, direction_of(body.truncation_direction))
        headers = headers_of(ranked.answer, request) | self._marks(ranked)
        order = ranking(ranked.scores)
        if body.texts is not None:
            return json_response(_tei(body, order, ranked.scores), headers=headers)
        return json_response(_object(body, order[: body.top_n], ranked), headers=headers)

    async def _ranked(
        self, request: Request, body: RerankBody, texts: list[str], direction: Direction
    ) -> "_Ranked":
        """By the model that answers; asked again when another one takes over in the middle."""
        for _ in range(_MODEL_CHANGES):
            model = self.served.answering
            # Gates, on the private socket, judge the model by every one of its probes.
            private = bool(request.scope.get("gpuctl.private"))
            some = texts if private else texts[: self._most(model, body.query, texts)]
            with suppress(ModelChanged):
                answer, scores = await self._scores_by(model, request, body, some, direction)
                everything = with_unranked(scores, len(texts), raw=bool(body.raw_scores))
                return _Ranked(answer, everything, len(some), model, model is not self.served.main)
        raise unavailable("The model that answers keeps changing. Try again later.", 5)

    def _most(self, model: LoadedModel, query: str, texts: list[str]) -> int:
        """Candidates that are ranked now: a substitute takes what it can, the right engine all."""
        if not self.served.stands_in:
            return len(texts)
        return self.settings.fallback_max_candidates or affordable(
            texts,
            query,
            tokens_per_second=self.served.tokens_per_second,
            seconds=self.settings.deadline_ms / 1000 * _SHARE_OF_DEADLINE,
            max_tokens=model.max_tokens,
        )

    def _marks(self, ranked: "_Ranked") -> dict[str, str]:
        """Headers of an answer by a substitute; counts it."""
        marks: dict[str, str] = {}
        if ranked.fallback:
            self._fallback_answers.inc()
            marks["x-gpuctl-fallback"] = ranked.model.manifest.id
        if (total := len(ranked.scores)) > ranked.count:
            self._unranked.inc(total - ranked.count)
            marks["x-gpuctl-ranked"] = f"{ranked.count}/{total}"
        return marks

    async def _scores_by(
        self, model: LoadedModel, request: Request, body: RerankBody, texts: list[str], direction: Direction
    ) -> tuple[Answer, Scores]:
        truncate, raw = body.truncate is not False, body.raw_scores
        if model.is_cross_encoder:
            pairs = [(body.query, text) for text in texts]
            answer = await self.rows(request, pairs, model, truncate=truncate, direction=direction)
            return answer, answer.rows if raw else sigmoid(answer.rows)
        # E5 and BGE know other words before a query than before what is searched.
        prompts, prefix = model.manifest.prompts, model.manifest.prefix
        asked = (prompt_of(prompts, prefix, "query") or "") + body.query
        before = passage_prompt(prompts, prefix)
        everything = [(asked,), *((before + text,) for text in texts)]
        answer = await self.rows(request, everything, model, truncate=truncate, direction=direction)
        cosine = cosines(answer.rows)
        return answer, cosine if raw else from_cosine(cosine)


@dataclass(frozen=True)
class _Ranked:
    """Scores of every candidate, and who gave them."""

    answer: Answer
    scores: Scores
    #: Candidates that the model scored, from the first.
    count: int
    model: LoadedModel
    #: Whether a smaller model answered in place of the one that was asked for.
    fallback: bool


def _object(body: RerankBody, order: list[int], ranked: _Ranked) -> dict[str, Any]:
    """Superset of Jina's and Cohere's answers; each result echoes the document it was given."""
    documents, tokens = body.documents or [], ranked.answer.tokens
    results = []
    for index in order:
        score = float(ranked.scores[index])
        result: dict[str, Any] = {"index": index, "relevance_score": score, "score": score}
        if body.return_documents is not False:
            item = documents[index]
            result["document"] = {"text": item} if isinstance(item, str) else item
        results.append(result)
    return {
        "id": "rerank-" + secrets.token_hex(8),
        "object": "rerank",
        "model": ranked.model.manifest.id,
        "device": ranked.answer.device,
        **({"fallback": True} if ranked.fallback else {}),
        **({"ranked": ranked.count} if ranked.count < len(ranked.scores) else {}),
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
    settings, notes = RerankSettings.load(env)
    return Reranker(settings, notes, factory)
