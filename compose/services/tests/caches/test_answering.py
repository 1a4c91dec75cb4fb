"""Whose answer it is: engines, models and revisions never share one."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from gpuctl_serving.caches.answering import Answering
from gpuctl_serving.caches.memory import Bounds
from gpuctl_serving.caches.metrics import CacheMetrics
from gpuctl_serving.caches.question import Answer, Question
from gpuctl_serving.caches.results import ResultCache
from gpuctl_serving.engines.batch_thread import ModelChanged
from gpuctl_serving.engines.computed import Computed
from gpuctl_serving.engines.inference_metrics import InferenceMetrics
from gpuctl_serving.engines.loaded_model import LoadedModel
from gpuctl_serving.engines.protocol import EngineSpec, Tokens
from gpuctl_serving.engines.rows import OnRow
from gpuctl_serving.kit.errors import ServiceError, overloaded, past_deadline, unavailable

GPU = EngineSpec("torch-cuda", "cuda", "float16", 1)
CPU = EngineSpec("onnxruntime-cpu", "cpu", "float32", 1)


class Engines:
    """Every row says which engine computed it and how often it was asked before."""

    def __init__(self) -> None:
        #: Answers now; `computes` is who has really run a batch by the time it is done (None: two of them).
        self.engine: EngineSpec | None = GPU
        self.computes: EngineSpec | None = GPU
        self.error: Exception | None = None
        #: Set by a test that wants batches to wait.
        self.gate: asyncio.Event | None = None
        self.rows = self.batches = 0

    async def compute(
        self,
        characters: Sequence[int],
        tokenize: Callable[[], list[Tokens]],
        model: LoadedModel,
        *,
        deadline: float | None = None,
        on_row: OnRow | None = None,
    ) -> Computed:
        sequences = tokenize()
        self.rows += len(sequences)
        self.batches += 1
        if self.gate is not None:
            await self.gate.wait()
        if self.error is not None:
            raise self.error
        rows = np.zeros((len(sequences), model.manifest.dimension or 1), np.float32)
        for at in range(len(sequences)):
            # The first row of a batch of two engines is the GPU's, the others are the CPU's.
            engine = self.computes or (CPU if at else GPU)
            rows[at] = 1 if engine == GPU else 2
            if on_row is not None:
                on_row(at, rows[at : at + 1], engine)
        tokens = sum(map(len, sequences))
        return Computed(rows, tokens, tokens, 0, {}, "cpu" if self.computes is None else self.computes.device)


class World:
    def __init__(self, model: Path) -> None:
        self.engines = Engines()
        self.model = LoadedModel.read(model, 0)
        cache = ResultCache(Bounds(100, 10**6, 0), None, CacheMetrics(CollectorRegistry()))
        self.answering = Answering(self.engines, cache, InferenceMetrics(CollectorRegistry()), 5000)

    def ask(self, text: str = "text", model: LoadedModel | None = None) -> tuple[float, int, str]:
        """(mark of who computed the row, hits, device that is told)."""
        question = Question([(text,)], "right", truncate=True)
        answer = asyncio.run(self.answering.answer(question, model or self.model))
        return float(answer.rows[0, 0]), answer.hits, answer.device


@pytest.fixture
def world(tiny: dict[str, Path]) -> World:
    return World(tiny["tiny-xlmr-embedder"])


def test_a_cpu_that_stands_in_neither_takes_the_gpus_answers_nor_leaves_its_own_to_it(world: World) -> None:
    assert world.ask() == (1, 0, "cuda")
    world.engines.engine = world.engines.computes = CPU
    assert world.ask() == (2, 0, "cpu")
    assert world.ask() == (2, 1, "cpu")
    world.engines.engine = world.engines.computes = GPU
    assert world.ask() == (1, 1, "cuda")


def test_an_answer_belongs_to_who_computed_it_not_to_who_answered_when_it_was_asked(world: World) -> None:
    world.engines.computes = CPU
    assert world.ask() == (2, 0, "cpu")
    world.engines.computes = GPU
    assert world.ask() == (1, 0, "cuda")
    world.engines.engine = CPU
    assert world.ask() == (2, 1, "cpu")


def test_an_answer_of_two_engines_is_kept_row_by_row_under_each_of_them(world: World) -> None:
    world.engines.computes = None
    question = Question([("a",), ("b",)], "right", truncate=True)
    answer = asyncio.run(world.answering.answer(question, world.model))
    assert (answer.rows[:, 0].tolist(), answer.device) == ([1, 2], "cpu")
    world.engines.computes = GPU
    assert world.ask("a") == (1, 1, "cuda")
    assert world.ask("b") == (1, 0, "cuda")
    world.engines.engine = CPU
    assert world.ask("b") == (2, 1, "cpu")


def test_while_no_engine_is_known_nothing_is_looked_up(world: World) -> None:
    world.ask()
    world.engines.engine = None
    assert world.ask() == (1, 0, "cuda")
    assert world.engines.rows == 2


async def asked(world: World, *texts: str, truncate: bool = True) -> Answer:
    return await world.answering.answer(Question([(t,) for t in texts], "right", truncate), world.model)


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


def test_who_asks_for_what_others_work_on_waits_for_it_and_computes_the_rest(world: World) -> None:
    async def run() -> None:
        world.engines.gate = asyncio.Event()
        first = asyncio.ensure_future(asked(world, "a", "b"))
        await settle()
        second = asyncio.ensure_future(asked(world, "b", "c"))
        third = asyncio.ensure_future(asked(world, "c", "a"))
        await settle()
        assert world.engines.rows == 3
        world.engines.gate.set()
        answers = await asyncio.gather(first, second, third)
        assert [a.computed_tokens > 0 for a in answers] == [True, True, False]
        assert answers[2].tokens == answers[2].rows.shape[0] * 3
        assert [a.hits for a in answers] == [0, 0, 0]

    asyncio.run(run())
    assert world.engines.rows == 3


def test_when_the_one_who_works_is_cancelled_another_takes_over(world: World) -> None:
    async def run() -> None:
        world.engines.gate = asyncio.Event()
        first = asyncio.ensure_future(asked(world, "a"))
        await settle()
        others = [asyncio.ensure_future(asked(world, "a")) for _ in range(3)]
        await settle()
        first.cancel()
        others[0].cancel()
        await settle()
        world.engines.gate.set()
        assert [float((await other).rows[0, 0]) for other in others[1:]] == [1, 1]
        assert world.engines.batches == 2

    asyncio.run(run())


def test_a_failure_of_the_engine_is_everyones_and_the_next_request_tries_anew(world: World) -> None:
    async def run() -> None:
        world.engines.gate = asyncio.Event()
        world.engines.error = unavailable("It broke.")
        waiting = [asyncio.ensure_future(asked(world, "a")) for _ in range(4)]
        await settle()
        world.engines.gate.set()
        told = await asyncio.gather(*waiting, return_exceptions=True)
        assert [isinstance(one, ServiceError) and one.status for one in told] == [503] * 4
        assert world.engines.batches == 1
        world.engines.error = None
        assert (await asked(world, "a")).hits == 0

    asyncio.run(run())


@pytest.mark.parametrize("personal", [overloaded("Full.", 1), past_deadline(1), ModelChanged()])
def test_a_refusal_of_one_request_says_nothing_about_the_others(world: World, personal: Exception) -> None:
    async def run() -> None:
        world.engines.gate = asyncio.Event()
        world.engines.error = personal
        first = asyncio.ensure_future(asked(world, "a"))
        await settle()
        second = asyncio.ensure_future(asked(world, "a"))
        await settle()
        world.engines.gate.set()
        with pytest.raises(type(personal)):
            await first
        world.engines.error = None
        assert (await second).rows[0, 0] == 1

    asyncio.run(run())


def test_who_must_not_be_cut_is_refused_also_when_another_computed_it(world: World) -> None:
    async def run() -> None:
        long = "word " * 600
        world.engines.gate = asyncio.Event()
        first = asyncio.ensure_future(asked(world, long))
        await settle()
        second = asyncio.ensure_future(asked(world, "short", long, truncate=False))
        await settle()
        world.engines.gate.set()
        assert (await first).truncated == 1
        with pytest.raises(ServiceError, match="Input 1 is longer"):
            await second

    asyncio.run(run())


def test_a_wait_for_others_ends_at_the_deadline(world: World) -> None:
    async def run() -> None:
        world.answering._deadline_ms = 30
        world.engines.gate = asyncio.Event()
        first = asyncio.ensure_future(asked(world, "a"))
        await settle()
        with pytest.raises(ServiceError) as late:
            await asked(world, "a")
        assert late.value.status == 504
        world.engines.gate.set()
        await first

    asyncio.run(run())


@pytest.mark.parametrize("change", ["revision", "model", "files", "pooling", "limit"])
def test_a_change_of_the_model_never_finds_an_old_answer(world: World, change: str) -> None:
    world.ask()
    old = world.model
    manifest = old.manifest
    name, entry = next(iter(manifest.files.items()))
    new = {
        "revision": lambda: replace(old, manifest=msgspec.structs.replace(manifest, revision="r2")),
        "model": lambda: replace(old, manifest=msgspec.structs.replace(manifest, id="other/model")),
        "files": lambda: replace(
            old,
            manifest=msgspec.structs.replace(
                manifest, files={**manifest.files, name: msgspec.structs.replace(entry, sha256="0" * 64)}
            ),
        ),
        "pooling": lambda: replace(old, manifest=msgspec.structs.replace(manifest, pooling="mean")),
        "limit": lambda: replace(old, max_tokens=old.max_tokens - 1),
    }[change]()
    assert world.ask(model=new)[1] == 0
    assert world.ask(model=old)[1] == 1
