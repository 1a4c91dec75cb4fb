"""A service with a model whose answers are remembered."""

from collections.abc import Sequence

from starlette.requests import Request

from gpuctl_serving.caches.answering import Answering
from gpuctl_serving.caches.keys import Parts
from gpuctl_serving.caches.metrics import CacheMetrics
from gpuctl_serving.caches.question import Answer, Question, wants_fresh
from gpuctl_serving.caches.results import ResultCache
from gpuctl_serving.caches.settings import CachedSettings, bounds_of, place_of
from gpuctl_serving.engines.held import EngineFactory
from gpuctl_serving.engines.loaded_model import LoadedModel
from gpuctl_serving.engines.model_service import ModelService
from gpuctl_serving.kit.disconnect import unless_gone
from gpuctl_serving.kit.metrics import Metrics
from gpuctl_serving.kit.settings import Notes, SettingsError
from gpuctl_serving.models.tokenizer import Direction


class CachedService(ModelService):
    """The embedder and the reranker ask their model through `rows`."""

    settings: CachedSettings

    def __init__(
        self, settings: CachedSettings, notes: Notes, metrics: Metrics, factory: EngineFactory | None = None
    ) -> None:
        super().__init__(settings, notes, metrics, factory)
        self._cache = _cache_of(settings, CacheMetrics(metrics.registry))
        self._answering = Answering(self.served, self._cache, self.inference_metrics, settings.deadline_ms)

    async def rows(
        self,
        request: Request,
        inputs: Sequence[Parts],
        model: LoadedModel,
        *,
        truncate: bool,
        direction: Direction,
    ) -> Answer:
        """The model's row for each input, remembered or computed. Raises as Answering does, or ClientGone."""
        question = Question(inputs, direction, truncate, fresh=wants_fresh(request))
        return await unless_gone(request, self._answering.answer(question, model))

    async def close(self) -> None:
        """See HostedService."""
        await self._cache.close()
        await super().close()


def _cache_of(settings: CachedSettings, metrics: CacheMetrics) -> ResultCache:
    try:
        place = place_of(settings)
    except ValueError as wrong:
        raise SettingsError([str(wrong)]) from None
    if place is None:
        return ResultCache(bounds_of(settings), None, metrics)
    from gpuctl_serving.caches.redis_level import RedisLevel  # Imports the client only where one is wanted.

    return ResultCache(bounds_of(settings), RedisLevel(place, metrics), metrics)
