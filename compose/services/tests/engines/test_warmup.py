"""Warm-up covers every shape: what there is time for before an engine is promoted, the rest after it."""

import asyncio
import itertools
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.engines import part, row, sums
from tests.support.supervised import QUICK, Mortal, Site, Work, drive, settled

from gpuctl_serving.embedder.service import create_service
from gpuctl_serving.engines import supervisor
from gpuctl_serving.engines.held import Part
from gpuctl_serving.engines.protocol import Device, Engine, EngineSpec, OutOfMemory, Rows, TokenBatch
from gpuctl_serving.engines.warmup import Shape, WarmUp, bucket, ladder, widths

LIMITS = st.integers(1, 8192)
BUDGETS = st.integers(16, 65_536)


@given(LIMITS)
def test_widths_double_and_end_at_the_longest_text(limit: int) -> None:
    found = widths(limit)
    assert found[-1] == limit
    assert found == sorted(set(found))
    assert all(b <= 2 * a for a, b in itertools.pairwise(found))


@given(LIMITS, BUDGETS, st.data())
def test_whatever_a_batch_is_its_bucket_was_run_with_one_text_and_with_the_most_there_can_be(
    limit: int, budget: int, data: st.DataObject
) -> None:
    shapes = ladder(limit, budget, cpu=False)
    length = data.draw(st.integers(1, limit))
    width = bucket(length, limit)
    assert length <= width < max(2 * length, 17)
    assert Shape.of(1, width) in shapes
    assert Shape.of(max(1, budget // width), width) in shapes


@given(LIMITS, BUDGETS)
def test_on_a_cpu_every_width_is_run_but_only_the_widest_at_its_worst(limit: int, budget: int) -> None:
    shapes = ladder(limit, budget, cpu=True)
    assert {shape.tokens for shape in shapes} == set(widths(limit))
    assert Shape.of(max(1, budget // limit), limit) in shapes
    assert all(s.padded <= max(1024, s.tokens) for s in shapes if s.tokens < limit)


@given(LIMITS, BUDGETS, st.booleans())
def test_nothing_is_run_twice_and_nothing_is_larger_than_a_batch_may_be(
    limit: int, budget: int, cpu: bool
) -> None:
    shapes = ladder(limit, budget, cpu=cpu)
    assert shapes == sorted(set(shapes))
    assert all(s.padded == s.texts * s.tokens for s in shapes)
    assert all(s.padded <= budget or s.texts == 1 for s in shapes)


def test_minilm_on_two_cores_costs_little_more_than_its_worst_batch() -> None:
    shapes = ladder(256, 8192, cpu=True)
    assert sum(s.padded for s in shapes) <= 8192 + 4096
    assert len(shapes) <= 12


#: A shape may take long here, and a canary waits for it.
PATIENT_WITH_SHAPES = replace(QUICK, start_limit=60, prove_limit=60)

SHAPES = st.lists(st.builds(Shape.of, st.integers(1, 64), st.integers(1, 512)), max_size=20, unique=True)


@given(SHAPES)
def test_one_text_of_every_width_goes_first_and_the_rest_from_cheap_to_dear(shapes: list[Shape]) -> None:
    warmup, order = WarmUp(shapes), list[Shape]()
    while (shape := warmup.next(1.0)) is not None:
        order.append(shape)
        warmup.ran(shape, 0.0)
    alone = [shape for shape in order if shape.texts == 1]
    assert order == sorted(alone) + sorted(shape for shape in shapes if shape.texts > 1)
    assert warmup.cold == []


@given(SHAPES, st.floats(0.01, 5))
def test_a_start_runs_all_that_fits_its_time_and_leaves_nothing_else_out(
    shapes: list[Shape], seconds: float
) -> None:
    warmup, left, ran = WarmUp(shapes), seconds, list[Shape]()
    while (shape := warmup.next(left)) is not None:
        took = 0.005 + shape.padded * 0.0002  # The smallest costs most a token, as on a CPU.
        assert not ran or took <= warmup.expected(shape) + 0.005
        warmup.ran(shape, took)
        left -= took
        ran.append(shape)
    assert sorted([*ran, *warmup.cold]) == sorted(shapes)
    assert left <= 0 or all(warmup.expected(shape) > left for shape in warmup.cold)


class Warmed(Mortal):
    """Says what it ran before its first canary, and takes a while for every token."""

    def __init__(self, device: Device, token_seconds: float = 0.0) -> None:
        super().__init__(device)
        self.proven_after: int | None = None
        self.token_seconds = token_seconds
        self.most_rows = 10_000

    def canary(self, batch: TokenBatch) -> Rows:
        if self.proven_after is None:
            self.proven_after = len(self.batches)
        return super().canary(batch)

    def answer(self, batch: TokenBatch) -> Rows:
        rows = super().answer(batch)
        if len(batch) > self.most_rows:
            raise OutOfMemory(f"{len(batch)} rows do not fit")
        time.sleep(self.token_seconds * batch.padded_tokens)
        return rows


def warm_part(device: Device) -> Part:
    return replace(part(device), longest=row(*range(1, 65)))


def shapes_of(device: Device) -> set[tuple[int, int]]:
    return {(s.texts, s.tokens) for s in ladder(64, 256, cpu=device == "cpu")}


def last(site: Site, device: str) -> Warmed:
    engine = site.fleet.of(device)[-1]
    assert isinstance(engine, Warmed)
    return engine


async def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not true():
        assert time.monotonic() < end
        await asyncio.sleep(0.005)


def cold(site: Site) -> list[Shape]:
    held = site.batcher.supervisor.serving
    assert held is not None
    return held.warmup.cold


def test_every_engine_ran_every_shape_before_it_was_promoted_the_first_and_the_returning_one() -> None:
    async def work(site: Site) -> None:
        await settled(site)
        for device in ("cuda", "cpu"):
            engine = last(site, device)
            assert engine.proven_after == len(shapes_of(engine.device))
            assert set(engine.batches) == shapes_of(engine.device)
        first = last(site, "cuda")
        first.kill()
        await site.until("degraded")
        await site.until("ready")
        returned = last(site, "cuda")
        assert returned is not first
        assert returned.proven_after == len(shapes_of("cuda"))
        assert cold(site) == []

    drive(
        work,
        given=warm_part("cuda"),
        fallback=warm_part("cpu"),
        make=lambda spec: Warmed(spec.device),
        policy=PATIENT_WITH_SHAPES,
    )


def test_what_a_slow_engine_has_no_time_for_at_its_start_it_runs_while_nobody_asks() -> None:
    every = shapes_of("cpu")

    async def work(site: Site) -> None:
        engine = last(site, "cpu")
        early = engine.batches[: engine.proven_after]
        assert early == [(1, 16), (1, 32), (1, 64), *early[3:]]
        assert set(early) < every
        await until(lambda: not cold(site))
        assert set(engine.batches) == every
        assert len(engine.batches) == len(every)

    # 1.5 s in all, of which a start spends 0.7.
    drive(
        work,
        primary="cpu",
        given=warm_part("cpu"),
        alone=True,
        make=lambda spec: Warmed(spec.device, 1.5 / sum(t * w for t, w in every)),
        policy=PATIENT_WITH_SHAPES,
    )


def drive_alone(work: Work, seconds: float, kind: type[Warmed] = Warmed) -> None:
    """With one engine, on the CPU, that takes so long for all of its shapes; a start spends 0.7 s on them."""
    every = sum(texts * width for texts, width in shapes_of("cpu"))
    drive(
        work,
        primary="cpu",
        given=warm_part("cpu"),
        alone=True,
        make=lambda spec: kind(spec.device, seconds / every),
        policy=PATIENT_WITH_SHAPES,
    )


def test_warming_up_waits_while_requests_come_and_answers_them_first() -> None:
    async def work(site: Site) -> None:
        engine = last(site, "cpu")
        left = len(cold(site))
        assert left > 0
        end = time.monotonic() + 0.5
        while time.monotonic() < end:
            assert (await site.run(row(7, 1))).rows.tolist() == [[8, 2]]
        assert len(cold(site)) == left
        await until(lambda: not cold(site))
        assert set(engine.batches) >= shapes_of("cpu")

    drive_alone(work, 1.5)


class TwoLanes(Warmed):
    """Works on a short batch beside whatever runs."""

    def __init__(self, device: Device, token_seconds: float) -> None:
        super().__init__(device, token_seconds)
        self.beside = 0

    def infer_beside(self, batch: TokenBatch) -> Rows:
        self.beside += 1
        return sums(batch)


def test_a_short_text_passes_a_shape_that_is_being_warmed() -> None:
    async def work(site: Site) -> None:
        engine = last(site, "cpu")
        assert isinstance(engine, TwoLanes)
        engine.go.clear()
        early = len(engine.batches)
        await until(lambda: len(engine.batches) > early)
        assert (await site.run(row(7, 1))).rows.tolist() == [[8, 2]]
        assert (engine.beside, len(engine.batches)) == (1, early + 1)
        engine.go.set()
        await until(lambda: not cold(site))

    drive_alone(work, 1.5, TwoLanes)


def test_an_engine_that_requests_wait_for_comes_back_first_and_warms_up_later() -> None:
    async def work(site: Site) -> None:
        await until(lambda: not cold(site))
        first = last(site, "cpu")
        assert first.proven_after is not None
        first.kill()
        assert (await site.run(row(7, 1))).rows.tolist() == [[8, 2]]
        engine = last(site, "cpu")
        assert engine is not first
        assert engine.proven_after is not None
        assert engine.proven_after < first.proven_after
        await until(lambda: not cold(site))
        assert set(engine.batches) >= shapes_of("cpu")

    drive_alone(work, 0.5)


def test_memory_that_runs_out_while_warming_up_makes_batches_smaller_and_is_no_reason_to_fail() -> None:
    def narrow(spec: EngineSpec) -> Engine:
        engine = Warmed(spec.device)
        engine.most_rows = 4
        return engine

    async def work(site: Site) -> None:
        assert site.batcher.supervisor.view.phase == "ready"
        held = site.batcher.supervisor.serving
        assert held is not None
        assert held.budget.tokens == 64
        assert cold(site) == []

    drive(work, primary="cuda", given=warm_part("cuda"), alone=True, make=narrow)


def test_an_engine_that_dies_of_a_shape_is_made_again_and_serves_without_it() -> None:
    def make(spec: EngineSpec) -> Engine:
        engine = Warmed(spec.device)
        engine.poison = 33  # Only texts of more than 32 tokens have it.
        return engine

    async def work(site: Site) -> None:
        first, second = [last_of for _, last_of in site.fleet.made]
        assert isinstance(first, Warmed) and isinstance(second, Warmed)
        assert (first.proven_after, second.proven_after) == (None, 0)
        assert (await site.run(row(7, 1))).rows.tolist() == [[8, 2]]
        second.kill()
        assert (await site.run(row(7, 2))).rows.tolist() == [[9, 2]]
        assert len(site.fleet.made) == 3

    site = drive(work, primary="cpu", given=warm_part("cpu"), alone=True, make=make)
    assert site.phases == ["ready", "recovering", "ready"]


class DiesUnderEyes(Warmed):
    """Dead of a wide text for a while before whoever ran it hears so: the supervisor looks meanwhile."""

    looked: ClassVar[list[float]] = []

    def answer(self, batch: TokenBatch) -> Rows:
        if 33 in batch.flat:
            self.dead.set()
            before, end = len(self.looked), time.monotonic() + 20
            # The second look after it died began when the first was over.
            while len(self.looked) < before + 2:
                assert time.monotonic() < end
                time.sleep(0.001)
            self._alive()
        return super().answer(batch)


@pytest.mark.parametrize("alone", [True, False], ids=["alone", "beside a fallback"])
def test_a_first_start_survives_a_shape_that_kills_while_the_supervisor_looks(
    alone: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "_LOOK_SECONDS", 0.005)

    async def work(site: Site) -> None:
        assert site.batcher.supervisor.view.phase == "ready"
        first, second = site.fleet.of("cuda")
        assert isinstance(first, Warmed) and isinstance(second, Warmed)
        assert (first.proven_after, second.proven_after) == (None, 0)
        assert site.batcher.supervisor.slots()["primary"].losses == 0
        assert (await site.run(row(7, 1))).rows.tolist() == [[8, 2]]

    def looks() -> None:
        DiesUnderEyes.looked.append(time.monotonic())

    site = drive(
        work,
        given=warm_part("cuda"),
        alone=alone,
        make=lambda spec: DiesUnderEyes(spec.device) if spec.device == "cuda" else Warmed(spec.device),
        gpu_fault=looks,
        policy=PATIENT_WITH_SHAPES,
    )
    assert site.phases == ["ready"]


def test_a_service_that_has_just_started_has_run_one_text_of_every_width(minilm: Path) -> None:
    service = create_service({"GPUCTL_MODEL_DIR": str(minilm), "GPUCTL_DEVICE": "cpu"})
    service.load()
    held = service.served.supervisor.serving
    assert held is not None
    try:
        assert all(shape.texts > 1 for shape in held.warmup.cold)
        assert {shape.tokens for shape in held.ladder()} == {16, 32, 64, 128, 256}
        end = time.monotonic() + 60
        while held.warmup.cold:
            assert time.monotonic() < end
            time.sleep(0.02)
    finally:
        asyncio.run(service.close())
