"""A worker that computes, however little, is never taken for one that hangs; one that does not always is."""

from hypothesis import given
from hypothesis import strategies as st

from gpuctl_serving.engines.worker.stillness import STILL_SECONDS, Still, Watch, watched
from gpuctl_serving.kit.process import Usage, own_identity, usage

#: Seconds between two looks: as often as the front looks, to as late as a loaded machine lets it.
passings = st.lists(st.floats(0.05, 3.0), min_size=60, max_size=200)


def longest(looks: list[tuple[float, Usage | None]]) -> float:
    """The longest stillness that was seen in (seconds since the look before, usage)."""
    still: Still | None = None
    seen = 0.0
    for passed, use in looks:
        still = watched(still, passed, use)
        seen = max(seen, still.seconds if still else 0.0)
    return seen


@given(passings, st.floats(0.01, 4.0))
def test_a_hundredth_of_a_core_is_life(passed: list[float], share: float) -> None:
    used, looks = 5.0, list[tuple[float, Usage | None]]()
    for step in passed:
        used += share * step
        # Counted in ticks.
        looks.append((step, Usage(int(used * 100) / 100, False)))
    assert longest(looks) < STILL_SECONDS / 2


@given(passings, st.floats(0.0, 0.0005))
def test_beats_alone_are_not(passed: list[float], share: float) -> None:
    used, looks, watching = 5.0, list[tuple[float, Usage | None]](), 0.0
    for step in passed:
        used += share * step
        looks.append((step, Usage(used, False)))
        watching += min(step, 1.0)
    assert longest(looks) >= min(STILL_SECONDS, watching - 1.0)


@given(st.lists(st.floats(1.0, 1e6), max_size=9))
def test_time_in_which_nobody_looked_counts_for_little(passed: list[float]) -> None:
    assert longest([(step, Usage(1.0, False)) for step in passed]) < STILL_SECONDS


def test_waiting_for_a_disk_and_not_knowing_are_no_hang() -> None:
    assert longest([(1.0, Usage(1.0, True))] * 100) == 0
    assert longest([(1.0, None)] * 100) == 0
    assert longest([(1.0, Usage(1.0, False)), (1.0, None)] * 50) == 0


def test_a_watch_says_so_once_the_limit_is_over_and_takes_it_back_when_work_goes_on() -> None:
    used = 1.0
    watch = Watch(lambda: Usage(used, False), 2.0)
    assert [watch.hangs(100.0 + at / 2) for at in range(5)] == [False, False, False, False, True]
    used += 1.0
    assert not watch.hangs(103.0)


def test_usage_grows_with_work_and_is_unknown_of_nobody() -> None:
    pid = own_identity().pid
    before = usage(pid)
    assert before is not None and not before.waits_for_disk
    sum(range(3_000_000))
    after = usage(pid)
    assert after is not None and after.seconds > before.seconds
    assert usage(2**22 + 1) is None
