"""From the inputs of a request to their rows: look up what is known, compute the rest once, keep it."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from gpuctl_serving.caches.entry import Entry
from gpuctl_serving.caches.keys import Identity, KeyMaker
from gpuctl_serving.caches.question import Answer, Question, too_long
from gpuctl_serving.caches.results import ResultCache
from gpuctl_serving.engines.inference_metrics import InferenceMetrics
from gpuctl_serving.engines.loaded_model import LoadedModel
from gpuctl_serving.engines.protocol import EngineSpec, Rows, Tokens
from gpuctl_serving.engines.served_model import Computed, ServedModel


@dataclass(frozen=True)
class _Fresh:
    """What the engine computed just now, for some of the inputs."""

    computed: Computed
    sequences: list[Tokens]

    def entries(self) -> list[Entry]:
        # Copies: a view would keep the whole batch in memory.
        rows = np.array(self.computed.rows, np.float32).reshape(len(self.sequences), -1)
        return [Entry(row.copy(), len(t), t.truncated) for row, t in zip(rows, self.sequences, strict=True)]


class Answering:
    """Stands between the routes of a service and its model."""

    def __init__(self, served: ServedModel, cache: ResultCache, metrics: InferenceMetrics) -> None:
        self._served = served
        self._cache = cache
        self._metrics = metrics

    async def answer(self, question: Question, model: LoadedModel) -> Answer:
        """The rows of all inputs, by this model.

        Raises 422 for what must not be cut, 429, 503 and 504 as the queue does, ModelChanged when another
        model answers by now.
        """
        engine = self._served.engine
        if question.fresh or self._cache.off or engine is None:
            self._cache.passed_by(len(question.inputs))
            fresh = await self._compute(question, model, range(len(question.inputs)))
            done = fresh.computed
            return Answer(
                done.rows, done.tokens, done.computed_tokens, done.truncated, 0, done.device, done.timings
            )
        return await self._through_cache(question, model, engine)

    async def _through_cache(self, question: Question, model: LoadedModel, engine: EngineSpec) -> Answer:
        started = time.perf_counter()
        maker = _maker(question, model, engine)
        keys = maker.keys(question.inputs)
        found = await self._cache.find([*dict.fromkeys(keys)], model.manifest.dimension or 1)
        _refuse_cut(question, model, [found.get(key) for key in keys])
        hits = sum(key in found for key in keys)
        timings = {"cache": (time.perf_counter() - started) * 1000}
        missing = _missing(keys, found)
        device, computed_tokens, counted = engine.device, 0, 0
        if missing:
            self._metrics.coalesced.inc(len(keys) - hits - len(missing))
            fresh = await self._compute(question, model, missing)
            entries = fresh.entries()
            self._keep(question, model, missing, fresh, entries)
            found = {**found, **{keys[at]: entry for at, entry in zip(missing, entries, strict=True)}}
            device, computed_tokens = fresh.computed.device, fresh.computed.computed_tokens
            timings, counted = timings | fresh.computed.timings, fresh.computed.truncated
        everything = [found[key] for key in keys]
        truncated = sum(entry.truncated for entry in everything)
        self._metrics.truncated.inc(truncated - counted)
        return Answer(
            _stacked(everything, model.manifest.dimension),
            sum(entry.tokens for entry in everything),
            computed_tokens,
            truncated,
            hits,
            device,
            timings,
        )

    async def _compute(self, question: Question, model: LoadedModel, positions: Sequence[int]) -> _Fresh:
        sequences: list[Tokens] = []
        tokenize = question.tokenizing(model.tokenizer, positions, sequences)
        computed = await self._served.compute(question.characters(positions), tokenize, model)
        return _Fresh(computed, sequences)

    def _keep(
        self,
        question: Question,
        model: LoadedModel,
        positions: Sequence[int],
        fresh: _Fresh,
        entries: Sequence[Entry],
    ) -> None:
        """Under the keys of the engine that computed: a CPU's answer is never found as the GPU's."""
        engine = fresh.computed.engine
        if engine is None:
            return
        maker = _maker(question, model, engine)
        self._cache.keep(
            {maker.key(question.inputs[at]): e for at, e in zip(positions, entries, strict=True)}
        )


def _maker(question: Question, model: LoadedModel, engine: EngineSpec) -> KeyMaker:
    identity = Identity.of(model.manifest, engine, model.max_tokens)
    return KeyMaker(identity, question.direction)


def _refuse_cut(question: Question, model: LoadedModel, entries: Sequence[Entry | None]) -> None:
    if question.truncate:
        return
    for position, entry in enumerate(entries):
        if entry is not None and entry.truncated:
            raise too_long(position, model.max_tokens)


def _missing(keys: Sequence[bytes], found: Mapping[bytes, Entry]) -> list[int]:
    """Where each input that nobody knows stands first: one that is there twice is computed once."""
    first: dict[bytes, int] = {}
    for position, key in enumerate(keys):
        if key not in found:
            first.setdefault(key, position)
    return [*first.values()]


def _stacked(entries: Sequence[Entry], dimension: int | None) -> Rows:
    """Vectors one below the other, or scores one after the other."""
    rows = np.stack([entry.row for entry in entries])
    return rows[:, 0] if dimension is None else rows
