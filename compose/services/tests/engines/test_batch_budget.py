"""The batch budget shrinks when memory runs out and grows back, ever more hesitantly."""

from hypothesis import given
from hypothesis import strategies as st

from gpuctl_serving.engines.batch_budget import LEAST, BatchBudget


def test_it_shrinks_below_what_did_not_fit_and_never_to_nothing() -> None:
    budget = BatchBudget(8192)
    budget.shrink(5000, 0)
    assert budget.tokens == 2500
    for _ in range(20):
        budget.shrink(budget.tokens, 0)
    assert budget.tokens == LEAST


def test_it_doubles_after_each_calm_minute_up_to_where_it_began() -> None:
    budget = BatchBudget(1000)
    budget.shrink(1000, 0)
    budget.passed(59)
    assert budget.tokens == 500
    for now in (60, 61, 120, 180, 240):
        budget.passed(now)
    assert budget.tokens == 1000


def test_growth_that_brings_the_trouble_back_waits_twice_as_long_next_time() -> None:
    budget, now, waits = BatchBudget(1024), 0.0, []
    budget.shrink(1024, now)
    for _ in range(5):
        began = now
        while budget.tokens < 1024:
            now += 1
            budget.passed(now)
        waits.append(now - began)
        budget.shrink(1024, now)
    assert waits == [60, 120, 240, 480, 960]


@given(st.integers(1, 100_000), st.lists(st.tuples(st.booleans(), st.floats(0, 5000)), max_size=60))
def test_it_stays_between_its_bounds_whatever_happens(most: int, history: list[tuple[bool, float]]) -> None:
    budget, now = BatchBudget(most), 0.0
    for fits, seconds in history:
        now += seconds
        if fits:
            budget.passed(now)
        else:
            budget.shrink(budget.tokens, now)
        assert min(LEAST, most) <= budget.tokens <= most
