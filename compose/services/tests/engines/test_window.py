"""Batches are near in length, within the budget, fair between jobs, and nothing starves."""

import asyncio

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from gpuctl_serving.engines.protocol import Tokens
from gpuctl_serving.engines.rows import Job, Row
from gpuctl_serving.engines.window import LEAST_FREE, MOST_WASTE, choose

LOOP = asyncio.new_event_loop()


def job(*lengths: int) -> Job:
    rows = [
        Row(Tokens(np.ones(n, np.int32), None, False), bytes([n % 256]))
        for n in sorted(lengths, reverse=True)
    ]
    return Job(LOOP, LOOP.create_future(), len(rows), 0.0, pending=rows, left=len(rows))


lengths = st.lists(st.integers(1, 512), min_size=1, max_size=40)


@given(st.lists(lengths, min_size=1, max_size=6), st.integers(16, 8192))
def test_a_batch_holds_the_first_jobs_longest_row_and_keeps_both_limits(
    sizes: list[list[int]], budget: int
) -> None:
    jobs = [job(*s) for s in sizes]
    batch = choose(jobs, budget)
    assert jobs[0].pending[0] in batch
    assert len(set(map(id, batch))) == len(batch)
    padded, real = max(map(len, batch)) * len(batch), sum(map(len, batch))
    assert len(batch) == 1 or padded <= budget
    assert len(batch) == 1 or padded / real <= MOST_WASTE or padded - real <= LEAST_FREE


@given(st.lists(lengths, min_size=1, max_size=5), st.integers(16, 4096))
def test_everything_runs_exactly_once(sizes: list[list[int]], budget: int) -> None:
    jobs = [job(*s) for s in sizes]
    seen: list[Row] = []
    everything = [row for j in jobs for row in j.pending]
    while jobs:
        batch = choose(jobs, budget)
        seen += batch
        for j in jobs:
            j.pending = [row for row in j.pending if row not in batch]
        jobs = [j for j in jobs[1:] + jobs[:1] if j.pending]
    assert sorted(map(id, seen)) == sorted(map(id, everything))


def test_a_small_request_rides_along_with_a_large_one() -> None:
    large, small = job(*[100] * 200), job(100)
    assert small.pending[0] in choose([large, small], 8192)


def test_long_rows_do_not_make_short_ones_pay_for_padding() -> None:
    batch = choose([job(*[500] * 3, *[10] * 50)], 8192)
    assert [len(row) for row in batch] == [500] * 3
