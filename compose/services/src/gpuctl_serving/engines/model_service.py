"""What the embedder and the reranker share: one served model, and how they describe it."""

import asyncio
import time
from typing import Any, Literal

from starlette.requests import Request

import gpuctl_serving
from gpuctl_serving.caches.question import Answer
from gpuctl_serving.engines.engine_info import engines_of
from gpuctl_serving.engines.held import EngineFactory
from gpuctl_serving.engines.inference_metrics import InferenceMetrics
from gpuctl_serving.engines.served_model import ServedModel
from gpuctl_serving.engines.settings import ModelSettings
from gpuctl_serving.engines.state import View
from gpuctl_serving.kit.app import timings
from gpuctl_serving.kit.errors import empty, invalid, unavailable
from gpuctl_serving.kit.logs import Log
from gpuctl_serving.kit.metrics import Metrics
from gpuctl_serving.kit.service import ServiceBase
from gpuctl_serving.kit.settings import Notes
from gpuctl_serving.models.tokenizer import Direction

log = Log(__name__)


class ModelService(ServiceBase):
    """A service around one model."""

    settings: ModelSettings

    def __init__(
        self, settings: ModelSettings, notes: Notes, metrics: Metrics, factory: EngineFactory | None = None
    ) -> None:
        super().__init__(settings, notes)
        self.metrics = metrics
        self.inference_metrics = InferenceMetrics(metrics.registry, settings.slo_ms)
        self.served = ServedModel(settings, self.inference_metrics, factory, self._changed)

    def load_parts(self) -> None:
        """See ServiceBase."""
        self.served.load()

    def _changed(self, _before: View, after: View) -> None:
        """On whichever thread noticed it: `gpuctl_device_info` tells of the engine that answers."""
        facts, manifest = self.served.facts, self.served.manifest
        if after.serving is None or facts is None or manifest is None:
            self.metrics.unprove_device()
            return
        self.metrics.prove_device(facts.device, facts.name, facts.dtype, manifest.id, manifest.revision)

    @property
    def device(self) -> str | None:
        """The device of the session that answered the canary rightly."""
        return self.served.view.device if self.state == "ready" else None

    @property
    def device_reason(self) -> str | None:
        """See ServiceBase."""
        return self.served.view.reason if self.state == "ready" else None

    @property
    def model(self) -> str | None:
        """Id of the model that answers."""
        return self.served.manifest.id if self.served.manifest else None

    @property
    def degraded(self) -> str | None:
        """Trouble of the engines, or a device that is not the one asked for."""
        return self.served.trouble()

    @property
    def unmet(self) -> str | None:
        """As in ServiceBase; while the engine is being restarted requests wait for it."""
        return None if self.served.view.phase == "recovering" and self.device is None else super().unmet

    @property
    def fit(self) -> bool:
        """See ServiceBase: nothing is fit without an engine."""
        return super().fit and self.served.view.serving is not None

    @property
    def status(self) -> Literal["healthy", "degraded", "loading", "failed"]:
        """See ServiceBase."""
        return "failed" if self.state == "ready" and self.served.view.phase == "failed" else super().status

    def health(self) -> dict[str, Any]:
        """See ServiceBase."""
        return {**super().health(), "state": self.served.view.phase, "fallback": self.served.falls_back}

    def scoring(self) -> str | None:
        """How scores come about, for `/info`; None for a service without scores."""
        return None

    def model_type(self) -> dict[str, Any]:
        """TEI's `model_type`."""
        return {"embedding": {"pooling": self.served.loaded.pooling}}

    def info(self) -> dict[str, Any]:
        """TEI's `/info` and more."""
        settings, facts, manifest = self.settings, self.served.facts, self.served.manifest
        return {
            "service": self.name,
            "model_id": manifest and manifest.id,
            "model_sha": manifest and manifest.revision,
            "model_dtype": facts and facts.dtype,
            "served_model_name": manifest and manifest.id,
            "model_type": self.model_type() if manifest else None,
            "max_input_length": self.served.max_tokens,
            "max_batch_tokens": self.served.batcher.batch_tokens if manifest else settings.max_batch_tokens,
            "max_queue_tokens": self._most_tokens(),
            "max_client_batch_size": settings.max_items,
            # Admission is by tokens, and a request has one at least; a batch is bounded by its tokens alone.
            "max_concurrent_requests": self._most_tokens(),
            "max_batch_requests": None,
            # Of TEI's own build and image: this is neither.
            "sha": None,
            "docker_label": None,
            "auto_truncate": True,
            "tokenization_workers": self.served.threads,
            "version": gpuctl_serving.__version__,
            "state": self.served.view.phase if self.state == "ready" else self.state,
            "status": self.status,
            "device": self.device,
            "device_reason": self.device_reason,
            "reason": self.health()["reason"],
            "fallback": self.served.falls_back,
            "engines": engines_of(self.served) if manifest else [],
            "engine": facts and facts.name,
            "providers": list(facts.providers) if facts else [],
            "threads": self.served.threads,
            "revision": manifest and manifest.revision,
            "artifact_sha256": manifest and manifest.files["model.onnx"].sha256,
            "dimension": manifest and manifest.dimension,
            "generation": manifest and manifest.generation,
            "licence": manifest and manifest.licence,
            "scoring": self.scoring(),
        }

    def _most_tokens(self) -> int:
        """Tokens that may wait now."""
        return self.served.batcher.queue_limit if self.served.manifest else self.settings.max_queue_tokens

    async def warmup(self) -> dict[str, Any]:
        """See ServiceBase."""
        self._need_model()
        try:
            return await self.served.warmup()
        except Exception as broken:  # An engine raises what its library raises: any of it ends the warm-up.
            log.error("warmup-failed")
            raise unavailable(f"The warm-up failed: {broken}.") from broken

    async def proof(self) -> dict[str, Any]:
        """See ServiceBase."""
        self._need_model()
        try:
            return await self.served.proof()
        except TimeoutError:
            raise unavailable("The engine did not answer the proof in time.") from None
        except Exception as broken:  # As above: an engine that fails has proven nothing.
            log.error("proof-failed")
            raise unavailable(f"The engine failed on the proof: {broken}.") from broken

    async def close(self) -> None:
        """See HostedService."""
        await asyncio.to_thread(self.served.close)

    def _need_model(self) -> None:
        if self.state != "ready":
            raise unavailable(f"The {self.name} is {self.state}: {self.reason or 'it has not loaded yet'}.")

    def check_items(self, count: int, param: str) -> None:
        """400 for nothing, 422 for more than GPUCTL_MAX_ITEMS."""
        if count == 0:
            raise empty(f"`{param}` is empty. Send at least one.", param)
        most = self.settings.max_items
        if count > most:
            raise invalid(
                f"`{param}` has {count} items and at most {most} are taken. Send several requests.", param
            )


def headers_of(answer: Answer, request: Request) -> dict[str, str]:
    """Headers that say what the answer cost, TEI's among them; adds its stages to `Server-Timing`."""
    took = answer.timings
    timings(request).update(took)
    request.scope["gpuctl.device"] = answer.device
    # TEI gives the time of the whole request twice.
    total = _ms((time.perf_counter() - request.scope.get("gpuctl.started", time.perf_counter())) * 1000)
    return {
        "x-compute-time": total,
        "x-compute-characters": str(answer.characters),
        "x-compute-tokens": str(answer.computed_tokens),
        "x-total-time": total,
        "x-tokenization-time": _ms(took.get("tokenize", 0.0)),
        "x-queue-time": _ms(took.get("queue", 0.0)),
        "x-inference-time": _ms(took.get("inference", 0.0)),
        "x-gpuctl-truncated": str(answer.truncated),
        "x-gpuctl-cache": f"{answer.hits}/{len(answer.rows)}",
    }


def _ms(milliseconds: float) -> str:
    """As TEI writes it: whole milliseconds, those that have passed."""
    return str(int(milliseconds))


def direction_of(text: str | None) -> Direction:
    """TEI's clients write it with a capital; absent and null mean the default."""
    match (text or "right").lower():
        case "right":
            return "right"
        case "left":
            return "left"
    raise invalid(f"`truncation_direction` is {text!r}; it is `right` or `left`.", "truncation_direction")
