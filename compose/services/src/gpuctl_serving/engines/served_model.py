"""A model ready to answer: verified files, tokenizer, engine, queue, and proof that it answers rightly."""

import asyncio
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from gpuctl_serving.engines.batcher import Batcher
from gpuctl_serving.engines.inference_metrics import InferenceMetrics
from gpuctl_serving.engines.protocol import Engine, EngineBroken, EngineFacts, Rows, TokenBatch, Tokens
from gpuctl_serving.engines.select import Choice, choose_engine
from gpuctl_serving.engines.settings import ModelSettings
from gpuctl_serving.engines.threads import thread_count
from gpuctl_serving.kit.errors import LoadFailed, invalid
from gpuctl_serving.kit.logs import Log
from gpuctl_serving.models.errors import ModelProblem
from gpuctl_serving.models.manifest import Manifest, damage, read_manifest
from gpuctl_serving.models.probing import Verdict, judge, tokens_of
from gpuctl_serving.models.tokenizer import ModelTokenizer

log = Log(__name__)

#: What a session of each device must list first; anything else is a silent fallback.
_PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "mps": "CoreMLExecutionProvider",
}


@dataclass(frozen=True)
class Computed:
    """Answers of one request, with what they cost."""

    rows: Rows
    tokens: int
    truncated: int
    #: Stage -> milliseconds.
    timings: dict[str, float]


class ServedModel:
    """Loads once, then answers. Everything that blocks happens in `load` or in threads."""

    def __init__(self, settings: ModelSettings, metrics: InferenceMetrics) -> None:
        self._settings = settings
        self._metrics = metrics
        self.threads = thread_count(settings.threads)
        # The tokenizer's own pool would take every core of the host, whatever the quota.
        os.environ.setdefault("RAYON_NUM_THREADS", str(self.threads))
        self.choice: Choice = choose_engine(settings.device)
        self.manifest: Manifest | None = None
        self.facts: EngineFacts | None = None
        self.max_tokens = 0
        self._tokenizer: ModelTokenizer | None = None
        self._pool = ThreadPoolExecutor(max(1, self.threads), thread_name_prefix="tokenize")
        self.batcher = Batcher(
            self.choice.create(self.threads),
            metrics,
            batch_tokens=settings.max_batch_tokens,
            queue_tokens=settings.max_queue_tokens,
            deadline_ms=settings.deadline_ms,
        )

    def load(self) -> None:
        """Verifies, loads, proves. Blocks; raises LoadFailed with what to do."""
        directory = self._settings.model_dir
        try:
            manifest = read_manifest(directory)
            if broken := damage(directory, manifest):
                what = "; ".join(f"{name} {why}" for name, why in broken)
                raise LoadFailed(f"The model in {directory} is damaged: {what}. Run `gpuctl models fetch`.")
            self.max_tokens = min(self._settings.max_tokens or manifest.max_tokens, manifest.max_tokens)
            tokenizer = ModelTokenizer(directory / "tokenizer.json", self.max_tokens)
        except ModelProblem as problem:
            raise LoadFailed(f"{problem}. Run `gpuctl models fetch`.") from problem
        self._tokenizer = tokenizer
        self.manifest = manifest
        self.batcher.engine.pad_id = tokenizer.pad_id(0)
        self.batcher.engine.device = self.choice.device
        self.batcher.engine.start()
        # The first call of the pool makes its threads and the tokenizer's own: not on somebody's request.
        self._pool.submit(tokenizer.texts, ["warm"] * 8).result()
        self.facts = self._load_engine()
        if self.choice.reason is not None:
            self._metrics.fallback.labels(self._settings.device, self.choice.device, "provider-absent").inc()
            log.warning("degraded", reason=self.choice.reason)
        self._prove_at_load(tokenizer)

    def _load_engine(self) -> EngineFacts:
        file = self._settings.model_dir / "model.onnx"
        started = time.perf_counter()
        try:
            facts = self.batcher.engine.call(lambda engine: engine.load(file)).result()
        except EngineBroken as broken:
            raise LoadFailed(f"The engine cannot be loaded: {broken}") from broken
        wanted = _PROVIDERS[self.choice.device]
        if wanted not in facts.providers:
            raise LoadFailed(f"The session runs on {', '.join(facts.providers)}, not on {wanted}.")
        ms = round((time.perf_counter() - started) * 1000)
        log.info("engine-loaded", engine=facts.name, device=facts.device, threads=facts.threads, ms=ms)
        return facts

    def _prove_at_load(self, tokenizer: ModelTokenizer) -> None:
        """Does not serve a model that answers its own canary wrongly."""
        verdict = self._canary(tokenizer).result()
        if not verdict.ok:
            raise LoadFailed(f"The model answers its canary wrongly on this machine: {verdict.detail}.")

    def _canary(self, tokenizer: ModelTokenizer) -> "Future[Verdict]":
        probe = self.loaded.probes.items[0]
        batch = tokens_of(probe, tokenizer)
        return self.batcher.engine.call(lambda engine: judge(probe, engine.infer(batch)))

    @property
    def loaded(self) -> Manifest:
        """The manifest of the loaded model."""
        if self.manifest is None:
            raise LoadFailed("no model is loaded")
        return self.manifest

    @property
    def tokenizer(self) -> ModelTokenizer:
        """The tokenizer of the loaded model."""
        if self._tokenizer is None:
            raise LoadFailed("no model is loaded")
        return self._tokenizer

    async def compute(
        self, characters: Sequence[int], tokenize: Callable[[], list[Tokens]], *, truncate: bool
    ) -> Computed:
        """Tokenises in a thread, queues, waits. `characters` of each text are for admission before it."""
        started = time.perf_counter()
        with self.batcher.reserve(characters, self.max_tokens):
            sequences = await asyncio.get_running_loop().run_in_executor(self._pool, tokenize)
        tokenize_ms = (time.perf_counter() - started) * 1000
        self._metrics.tokenize_seconds.labels(self.batcher.engine.device).observe(tokenize_ms / 1000)
        truncated = sum(tokens.truncated for tokens in sequences)
        if truncated and not truncate:
            first = next(index for index, tokens in enumerate(sequences) if tokens.truncated)
            raise invalid(
                f"Input {first} is longer than {self.max_tokens} tokens and `truncate` is false. "
                "Shorten it, or send `truncate: true`."
            )
        self._metrics.truncated.inc(truncated)
        ran = await self.batcher.run(sequences)
        timings = {"tokenize": tokenize_ms, "queue": ran.queue_ms, "inference": ran.inference_ms}
        return Computed(ran.rows, sum(map(len, sequences)), truncated, timings)

    async def proof(self) -> dict[str, Any]:
        """What proves the device now: the live session's providers and a canary answer."""
        engine = self.batcher.engine
        seconds = self._settings.deadline_ms / 1000
        async with asyncio.timeout(seconds):
            providers = await asyncio.wrap_future(engine.call(lambda e: e.probe()))
            verdict = await asyncio.wrap_future(self._canary(self.tokenizer))
        proven = verdict.ok and _PROVIDERS[self.choice.device] in providers
        return {
            "device": self.choice.device if proven else "none",
            "level": "self",
            "providers": list(providers),
            "canary": {"ok": verdict.ok, "similarity": verdict.similarity, "detail": verdict.detail},
        }

    async def warmup(self) -> dict[str, Any]:
        """Runs one text, a usual batch and the worst batch, and says how long each took."""
        longest = self.tokenizer.texts(["word " * self.max_tokens])[0]
        most = max(1, self.batcher.batch_tokens // len(longest))
        shapes = []
        for texts, tokens in ((1, 16), (8, 64), (most, len(longest))):
            row = Tokens(longest.ids[:tokens], None, truncated=False)
            batch = TokenBatch.of([row] * texts, self.batcher.engine.pad_id)
            ms = await asyncio.wrap_future(self.batcher.engine.call(_timed(batch)))
            shapes.append({"texts": texts, "tokens": batch.width, "ms": round(ms, 2)})
        return {"shapes": shapes}

    def trouble(self) -> str | None:
        """What is wrong with the engine right now, or None."""
        engine = self.batcher.engine
        if engine.lost is not None:
            return f"the device is lost: {engine.lost}"
        if (busy := engine.busy_seconds()) > self._settings.deadline_ms / 1000:
            return f"the engine has not answered for {busy:.0f} s"
        return engine.fault

    def close(self) -> None:
        """Ends the threads."""
        self.batcher.close()
        self._pool.shutdown(wait=False, cancel_futures=True)


def _timed(batch: TokenBatch) -> Callable[[Engine], float]:
    def run(engine: Engine) -> float:
        started = time.perf_counter()
        answer = engine.infer(batch)
        if not np.isfinite(answer).all():
            raise EngineBroken("warm-up gave values that are not finite numbers (NaN or infinity)")
        return (time.perf_counter() - started) * 1000

    return run
