"""Warm-up covers every shape of a request, cheapest first; start-up takes only what it has time for."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from gpuctl_serving.engines.warmup import Shape, affordable, bucket, ladder, widths

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


@given(st.lists(st.tuples(st.integers(1, 64), st.integers(1, 512)), max_size=20), st.floats(0, 1))
def test_start_up_takes_the_cheapest_that_fit_its_time(sizes: list[tuple[int, int]], left: float) -> None:
    shapes = [Shape.of(*size) for size in sizes]
    chosen = affordable(shapes, Shape.of(1, 16), 0.004, left)
    assert chosen == sorted(shapes)[: len(chosen)]
    assert sum(s.padded for s in chosen) * 0.004 / 16 <= left + 1e-9
