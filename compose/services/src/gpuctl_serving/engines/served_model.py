"""A model ready to answer: verified files, tokenizer, engines, queue, and proof that it answers rightly."""

import asyncio
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from gpuctl_serving.engines.assignment import Assignment, assign
from gpuctl_serving.engines.batcher import Batcher, Limits
from gpuctl_serving.engines.computed import Computed
from gpuctl_serving.engines.held import EngineFactory, Held
from gpuctl_serving.engines.inference_metrics import InferenceMetrics
from gpuctl_serving.engines.loaded_model import LoadedModel
from gpuctl_serving.engines.protocol import EngineFacts, EngineSpec, Tokens
from gpuctl_serving.engines.rows import OnRow
from gpuctl_serving.engines.select import plan_engines
from gpuctl_serving.engines.settings import ModelSettings
from gpuctl_serving.engines.state import Policy, View
from gpuctl_serving.engines.supervisor import OnChange, Supervisor
from gpuctl_serving.engines.telling import why
from gpuctl_serving.engines.threads import thread_count
from gpuctl_serving.engines.workers import worker_factory
from gpuctl_serving.kit.errors import LoadFailed
from gpuctl_serving.kit.gpu_watch import gpu_watch
from gpuctl_serving.models.manifest import Manifest
from gpuctl_serving.models.tokenizer import ModelTokenizer

#: Texts of so few characters are tokenised on the loop: a tenth of a millisecond, less than a thread costs.
_INLINE_CHARACTERS = 512
_NOTHING_YET = View("loading", None, None, None, "", None)


class ServedModel:
    """Loads once, then answers. Everything that blocks happens in `load` or in threads."""

    def __init__(
        self,
        settings: ModelSettings,
        metrics: InferenceMetrics,
        factory: EngineFactory | None = None,
        on_change: OnChange = lambda _before, _after: None,
    ) -> None:
        self._settings = settings
        self._metrics = metrics
        self.threads = thread_count(settings.threads)
        # The tokenizer's own pool would take every core of the host, whatever the quota.
        os.environ.setdefault("RAYON_NUM_THREADS", str(self.threads))
        self.plan = plan_engines(settings)
        self._factory = factory or worker_factory(settings)
        self._on_change = on_change
        #: How patient the engines' state machine is; tests shorten it before `load`.
        self.policy = Policy(eager_fallback=settings.fallback_load == "eager")
        self._assignment: Assignment | None = None
        self._pool = ThreadPoolExecutor(max(1, self.threads), thread_name_prefix="tokenize")
        self._batcher: Batcher | None = None

    def load(self) -> None:
        """Verifies, loads, proves. Blocks; raises LoadFailed with what to do."""
        settings = self._settings
        given = settings.smaller_model
        self._assignment = found = assign(
            self.plan,
            wished=settings.device,
            main=LoadedModel.read(settings.model_dir, settings.max_tokens),
            small=None if given is None else LoadedModel.read(given, settings.max_tokens),
            batch_tokens=settings.max_batch_tokens,
        )
        self._metrics.wished = self.plan.wished
        # The first call of the pool makes its threads and the tokenizer's own: not on somebody's request.
        self._pool.submit(self.answering.tokenizer.texts, ["warm"] * 8).result()
        self._batcher = batcher = Batcher(
            found.parts,
            self._factory,
            self._metrics,
            Limits(
                queue_tokens=settings.max_queue_tokens,
                degraded_queue_tokens=settings.degraded_queue_tokens,
                deadline_ms=settings.deadline_ms,
                sort=settings.sort_batches,
            ),
            on_change=self._on_change,
            policy=self.policy,
            shortfall=found.shortfall,
            gpu_fault=gpu_watch().fault,
        )
        told = batcher.start()
        if told.serving is None:
            batcher.close()
            raise LoadFailed(f"No engine can answer: {why(told) or 'the service is stopping'}.")
        if found.shortfall:
            self._metrics.fell_back(self.plan.wished, told.device or "none", "provider-absent")

    @property
    def batcher(self) -> Batcher:
        """Of the loaded model."""
        if self._batcher is None:
            raise LoadFailed("no model is loaded")
        return self._batcher

    @property
    def supervisor(self) -> Supervisor:
        """Of the loaded model's engines."""
        return self.batcher.supervisor

    @property
    def view(self) -> View:
        """What the world is told of the engines now."""
        return self.supervisor.view if self._batcher is not None else _NOTHING_YET

    @property
    def facts(self) -> EngineFacts | None:
        """Of the engine that answers."""
        held = self.supervisor.serving if self._batcher is not None else None
        return held.facts if held is not None else None

    @property
    def engine(self) -> EngineSpec | None:
        """The engine that answers."""
        held = self.supervisor.serving if self._batcher is not None else None
        return held.part.spec if held is not None else None

    @property
    def manifest(self) -> Manifest | None:
        """Of the model that answers; None before it is loaded."""
        return self.answering.manifest if self._assignment is not None else None

    @property
    def answering(self) -> LoadedModel:
        """The model that answers now: another one only where a fallback model was configured."""
        if self._assignment is None:
            raise LoadFailed("no model is loaded")
        return self._assignment.model_of(self.view.serving)

    @property
    def main(self) -> LoadedModel:
        """The model that was asked for."""
        if self._assignment is None:
            raise LoadFailed("no model is loaded")
        return self._assignment.main

    @property
    def falls_back(self) -> bool:
        """Whether a smaller model answers in place of the one that was asked for."""
        return self._assignment is not None and self.answering is not self._assignment.main

    @property
    def stands_in(self) -> bool:
        """Whether what answers is a substitute: a CPU in place of a faster device, or a smaller model."""
        view = self.view
        return self.falls_back or (view.device == "cpu" and view.reason is not None)

    @property
    def tokens_per_second(self) -> float:
        """Measured speed of the engine that answers; 0 before its first batch."""
        held = self.supervisor.serving
        return held.tokens_per_second if held is not None else 0.0

    @property
    def max_tokens(self) -> int:
        """Where texts are cut; 0 before a model is loaded."""
        return self.answering.max_tokens if self._assignment is not None else 0

    @property
    def loaded(self) -> Manifest:
        """The manifest of the model that answers."""
        return self.answering.manifest

    @property
    def tokenizer(self) -> ModelTokenizer:
        """The tokenizer of the model that answers."""
        return self.answering.tokenizer

    async def compute(
        self,
        characters: Sequence[int],
        tokenize: Callable[[], list[Tokens]],
        model: LoadedModel,
        *,
        deadline: float | None = None,
        on_row: OnRow | None = None,
    ) -> Computed:
        """Tokenises (in a thread unless it is little), queues, waits.

        `characters` of each text are for admission before that.

        `model` is the one `tokenize` is for; `deadline` is on the loop's clock; `on_row` is told of each row
        as soon as it is there. Raises ModelChanged when another model answers by then.
        """
        started = time.perf_counter()
        with self.batcher.reserve(characters, model.max_tokens):
            if sum(characters) <= _INLINE_CHARACTERS:
                sequences = tokenize()
            else:
                sequences = await asyncio.get_running_loop().run_in_executor(self._pool, tokenize)
        tokenize_ms = (time.perf_counter() - started) * 1000
        truncated = sum(tokens.truncated for tokens in sequences)
        self._metrics.truncated.inc(truncated)
        ran = await self.batcher.run(sequences, model.key, deadline, on_row)
        self._metrics.tokenize_seconds.labels(ran.device).observe(tokenize_ms / 1000)
        timings = {"tokenize": tokenize_ms, "queue": ran.queue_ms, "inference": ran.inference_ms}
        tokens = sum(map(len, sequences))
        computed = tokens - ran.shared_tokens
        return Computed(ran.rows, tokens, computed, truncated, timings, ran.device)

    async def proof(self) -> dict[str, Any]:
        """What proves the device now: the live session's providers, a canary answer, allocator bytes."""
        async with asyncio.timeout(self._settings.deadline_ms / 1000):
            held, proof = await asyncio.wrap_future(self.supervisor.prove_serving())
        verdict = proof.verdict
        return {
            "device": held.part.spec.device if proof.reason is None else "none",
            "level": "self",
            "providers": list(proof.providers),
            "allocatedBytes": proof.memory,
            "canary": {"ok": verdict.ok, "similarity": verdict.similarity, "detail": verdict.detail},
        }

    async def warmup(self) -> dict[str, Any]:
        """Runs every bucket of shapes, the worst batch last, and says how long each took."""
        ladder = await asyncio.wrap_future(self.supervisor.run_on_serving(Held.ladder))
        shapes = []
        for shape in ladder:
            seconds = await asyncio.wrap_future(
                self.supervisor.run_on_serving(partial(Held.run_shape, shape=shape))
            )
            shapes.append({"texts": shape.texts, "tokens": shape.tokens, "ms": round(seconds * 1000, 2)})
        return {"shapes": shapes}

    def trouble(self) -> str | None:
        """What is wrong with the engines right now, or None."""
        if self._batcher is None:
            return None
        busy = self._batcher.busy_seconds()
        if self.view.serving is not None and busy > self._settings.deadline_ms / 1000:
            return f"the engine has not answered for {busy:.0f} s"
        return why(self.view)

    def close(self) -> None:
        """Ends the threads and engines."""
        if self._batcher is not None:
            self._batcher.close()
        self._pool.shutdown(wait=False, cancel_futures=True)
