"""From the inputs of a request to their rows: look up what is known, compute the rest once, keep it."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from gpuctl_serving.caches.entry import Entry
from gpuctl_serving.caches.flights import Flights, Landed
from gpuctl_serving.caches.keys import Identity, KeyMaker
from gpuctl_serving.caches.question import Answer, Question, too_long
from gpuctl_serving.caches.results import ResultCache
from gpuctl_serving.engines.batch_thread import ModelChanged
from gpuctl_serving.engines.computed import Computed
from gpuctl_serving.engines.inference_metrics import InferenceMetrics
from gpuctl_serving.engines.loaded_model import LoadedModel
from gpuctl_serving.engines.protocol import Device, EngineSpec, Rows, Tokens
from gpuctl_serving.engines.rows import OnRow
from gpuctl_serving.kit.errors import ServiceError, past_deadline

#: Refusals of one request that say nothing of its texts: a full queue, a time over, `truncate: false`.
_PERSONAL = frozenset({422, 429, 504})


class Computes(Protocol):
    """What ServedModel does for this module."""

    @property
    def engine(self) -> EngineSpec | None:
        """The engine that answers now."""

    async def compute(
        self,
        characters: Sequence[int],
        tokenize: Callable[[], list[Tokens]],
        model: LoadedModel,
        *,
        deadline: float | None = None,
        on_row: OnRow | None = None,
    ) -> Computed:
        """The rows of what `tokenize` gives."""


@dataclass
class _Inquiry:
    """One question on its way: what it may find under which key, and what it cost so far."""

    question: Question
    model: LoadedModel
    engine: EngineSpec
    deadline: float
    keys: list[bytes]
    known: dict[bytes, Landed] = field(default_factory=dict)
    #: Keys that a cache knew.
    hits: set[bytes] = field(default_factory=set)
    computed_tokens: int = 0
    #: Inputs whose truncation was counted when they were computed.
    counted: int = 0
    timings: dict[str, float] = field(default_factory=dict)

    def missing(self) -> list[bytes]:
        """The different keys of which nothing is known yet, in their order."""
        return [key for key in dict.fromkeys(self.keys) if key not in self.known]

    def found(self, entries: Mapping[bytes, Entry]) -> None:
        """A cache knew these."""
        self.hits.update(entries)
        self.known |= {key: Landed(entry, self.engine) for key, entry in entries.items()}


class Answering:
    """Stands between the routes of a service and its model. Used on one event loop."""

    def __init__(
        self, served: Computes, cache: ResultCache, metrics: InferenceMetrics, deadline_ms: int
    ) -> None:
        self._served = served
        self._cache = cache
        self._metrics = metrics
        self._deadline_ms = deadline_ms
        self._flights = Flights()

    async def answer(self, question: Question, model: LoadedModel) -> Answer:
        """The rows of all inputs, by this model.

        Raises 422 for what must not be cut, 429, 503 and 504 as the queue does, ModelChanged when another
        model answers by now.
        """
        engine = self._served.engine
        if question.fresh or engine is None:
            return await self._fresh(question, model)
        keys = _maker(question, model, engine).keys(question.inputs)
        deadline = asyncio.get_running_loop().time() + self._deadline_ms / 1000
        inquiry = _Inquiry(question, model, engine, deadline, keys)
        await self._inquire(inquiry)
        return self._assembled(inquiry)

    async def _fresh(self, question: Question, model: LoadedModel) -> Answer:
        """Computed whatever is known, and not kept."""
        self._cache.passed_by(len(question.inputs))
        positions = range(len(question.inputs))
        tokenize = question.tokenizing(model.tokenizer, positions, [])
        done = await self._served.compute(question.characters(positions), tokenize, model)
        return Answer(
            done.rows,
            done.tokens,
            done.computed_tokens,
            done.truncated,
            question.size,
            0,
            done.device,
            done.timings,
        )

    async def _inquire(self, inquiry: _Inquiry) -> None:
        """Until everything is known: remembered, worked on here, or waited for where others work on it.

        What is worked on here never waits for others, so that no two requests can wait for each other.
        """
        while missing := inquiry.missing():
            inquiry.found(self._cache.remembered(missing))
            _refuse_cut(inquiry)
            mine, others = self._flights.board(inquiry.missing())
            if mine:
                await self._work_on(inquiry, mine)
            if others:
                self._metrics.coalesced.inc(len(others))
                try:
                    inquiry.known |= await self._flights.wait(others, inquiry.deadline)
                except TimeoutError:
                    raise past_deadline(self._deadline_ms) from None
                _refuse_cut(inquiry)

    async def _work_on(self, inquiry: _Inquiry, keys: Sequence[bytes]) -> None:
        """Fetches or computes these, for this request and for everyone who asks for them meanwhile."""
        failure: Exception | None = None
        try:
            await self._fetch(inquiry, keys)
            if left := [key for key in keys if key not in inquiry.known]:
                await self._compute(inquiry, left)
        except Exception as broken:
            personal = isinstance(broken, ServiceError) and broken.status in _PERSONAL
            failure = None if personal or isinstance(broken, ModelChanged) else broken
            raise
        finally:
            self._flights.end(keys, failure)

    async def _fetch(self, inquiry: _Inquiry, keys: Sequence[bytes]) -> None:
        started = time.perf_counter()
        fetched = await self._cache.fetched(keys, inquiry.model.manifest.dimension or 1)
        inquiry.timings["cache"] = (time.perf_counter() - started) * 1000
        inquiry.found(fetched)
        for key in fetched:
            self._flights.land(key, inquiry.known[key])
        _refuse_cut(inquiry)

    async def _compute(self, inquiry: _Inquiry, keys: Sequence[bytes]) -> None:
        question, model = inquiry.question, inquiry.model
        first = {key: at for at, key in reversed([*enumerate(inquiry.keys)])}
        positions = [first[key] for key in keys]
        wanted = set(keys)
        self._metrics.coalesced.inc(sum(key in wanted for key in inquiry.keys) - len(keys))
        sequences: list[Tokens] = []

        def landed(at: int, row: Rows, engine: EngineSpec) -> None:
            # A copy: a view would keep the whole batch in memory.
            tokens = sequences[at]
            entry = Entry(np.asarray(row, np.float32).flatten(), len(tokens), tokens.truncated)
            inquiry.known[keys[at]] = Landed(entry, engine)
            self._flights.land(keys[at], inquiry.known[keys[at]])
            self._keep(inquiry, keys[at], positions[at], inquiry.known[keys[at]])

        tokenize = question.tokenizing(model.tokenizer, positions, sequences)
        computed = await self._served.compute(
            question.characters(positions), tokenize, model, deadline=inquiry.deadline, on_row=landed
        )
        inquiry.computed_tokens += computed.computed_tokens
        inquiry.counted += computed.truncated
        inquiry.timings |= computed.timings

    def _keep(self, inquiry: _Inquiry, key: bytes, position: int, landed: Landed) -> None:
        """Under the key of the engine that computed: a CPU's answer is never found as the GPU's."""
        if landed.engine != inquiry.engine:
            maker = _maker(inquiry.question, inquiry.model, landed.engine)
            key = maker.key(inquiry.question.inputs[position])
        self._cache.keep({key: landed.entry})

    def _assembled(self, inquiry: _Inquiry) -> Answer:
        landed = [inquiry.known[key] for key in inquiry.keys]
        truncated = sum(one.entry.truncated for one in landed)
        self._metrics.truncated.inc(truncated - inquiry.counted)
        devices: set[Device] = {one.engine.device for one in landed}
        return Answer(
            _stacked([one.entry for one in landed], inquiry.model.manifest.dimension),
            sum(one.entry.tokens for one in landed),
            inquiry.computed_tokens,
            truncated,
            inquiry.question.size,
            sum(key in inquiry.hits for key in inquiry.keys),
            devices.pop() if len(devices) == 1 else "cpu",
            inquiry.timings,
        )


def _maker(question: Question, model: LoadedModel, engine: EngineSpec) -> KeyMaker:
    identity = Identity.of(model.manifest, engine, model.max_tokens)
    return KeyMaker(identity, question.direction)


def _refuse_cut(inquiry: _Inquiry) -> None:
    """422 for a known input that was cut to fit and must not be."""
    if inquiry.question.truncate:
        return
    for position, key in enumerate(inquiry.keys):
        landed = inquiry.known.get(key)
        if landed is not None and landed.entry.truncated:
            raise too_long(position, inquiry.model.max_tokens)


def _stacked(entries: Sequence[Entry], dimension: int | None) -> Rows:
    """Vectors one below the other, or scores one after the other."""
    rows = np.stack([entry.row for entry in entries])
    return rows[:, 0] if dimension is None else rows
