"""Which type at which size, and which shapes could move to a GPU."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuctl_serving.index.ann import plan as plans
from gpuctl_serving.index.ann.plan import (
    FLAT,
    Plan,
    Policy,
    best_code_size,
    gpu_problems,
    rebuild,
    shortage,
    wanted,
)

AUTO = Policy()


@pytest.mark.parametrize(
    ("count", "want"),
    [
        (0, FLAT),
        (9_999, FLAT),
        (10_000, Plan("IVFFlat", 128)),
        (25_000, Plan("IVFFlat", 512)),
        (99_999, Plan("IVFFlat", 1024)),
        (100_000, Plan("IVFPQ", 1024, 48)),
        (1_000_000, Plan("IVFPQ", 2048, 48)),
    ],
)
def test_the_type_follows_the_size_and_can_always_be_trained_at_its_threshold(count: int, want: Plan) -> None:
    assert wanted(AUTO, count, 384) == want
    assert shortage(want, count) is None


@pytest.mark.parametrize(
    ("dimension", "m"), [(384, 48), (768, 96), (1024, 64), (8, 1), (16, 2), (3, 3), (100, 0)]
)
def test_the_largest_code_that_a_gpu_takes_is_chosen(dimension: int, m: int) -> None:
    assert best_code_size(dimension) == m


@pytest.mark.parametrize(
    ("dimension", "m", "says"),
    [
        (384, 48, None),
        (384, 96, None),
        (384, 32, None),
        (384, 8, "parts of 48"),
        (384, 64, None),
        (384, 56, "cut into M=56"),
        (768, 96, None),
        (768, 64, None),
        (768, 10, "M is 10"),
        (768, 20, "cut into M=20"),
        (1024, 64, None),
        (1024, 32, None),
        (1024, 16, "parts of 64"),
        (1024, 128, "M is 128"),
        (1024, 96, "cut into M=96"),
    ],
)
def test_a_shape_that_no_gpu_takes_is_named(dimension: int, m: int, says: str | None) -> None:
    problems = gpu_problems(Plan("IVFPQ", 1024, m), dimension)
    assert (problems == []) if says is None else any(says in one for one in problems)


def test_codes_of_56_bytes_and_more_need_float16_tables() -> None:
    assert not Plan("IVFPQ", 1024, 48).float16_tables
    assert Plan("IVFPQ", 1024, 64).float16_tables


def test_too_few_are_refused_with_the_numbers() -> None:
    assert shortage(Plan("IVFFlat", 256), 9_983) == (
        "IVFFlat needs 9984 vectors to train (39 for each of 256 lists); there are 9983"
    )
    assert "39 for each of 64 lists and for each of 256 codes" in (
        shortage(Plan("IVFPQ", 64, 8), 9_000) or ""
    )
    assert rebuild(Policy("IVFPQ"), FLAT, 9_983, 384) is None
    assert rebuild(Policy("IVFPQ"), FLAT, 9_984, 384) == Plan("IVFPQ", 128, 48)
    assert rebuild(Policy("IVFFlat", nlist=100), FLAT, 3_899, 384) is None
    assert rebuild(Policy("IVFFlat", nlist=100), FLAT, 3_900, 384) == Plan("IVFFlat", 100)


def test_an_index_that_shrinks_a_little_is_left_and_one_that_shrank_a_lot_is_rebuilt() -> None:
    assert rebuild(AUTO, Plan("IVFFlat", 128), 9_000, 384) is None
    assert rebuild(AUTO, Plan("IVFFlat", 128), 4_000, 384) == FLAT
    assert rebuild(AUTO, Plan("IVFPQ", 1024, 48), 60_000, 384) is None
    assert rebuild(AUTO, Plan("IVFPQ", 1024, 48), 40_000, 384) == Plan("IVFFlat", 512)


def test_lists_are_trained_anew_when_there_should_be_four_times_as_many() -> None:
    assert rebuild(AUTO, Plan("IVFFlat", 256), 60_000, 384) is None
    assert rebuild(AUTO, Plan("IVFFlat", 256), 66_000, 384) == Plan("IVFFlat", 1024)
    assert rebuild(Policy("IVFFlat", nlist=256), Plan("IVFFlat", 256), 66_000, 384) is None


@given(
    st.builds(Policy, st.sampled_from(["auto", "Flat", "IVFFlat", "IVFPQ"]), st.sampled_from([0, 100])),
    st.integers(0, 30_000_000),
    st.sampled_from([3, 100, 384, 768, 1024]),
)
def test_whatever_is_built_has_enough_to_train_fits_a_gpu_and_is_then_right(
    policy: Policy, count: int, dimension: int
) -> None:
    plan = rebuild(policy, FLAT, count, dimension)
    if plan is not None:
        assert count >= plan.needs and not gpu_problems(plan, dimension)
        assert plan.nlist <= plans.LARGEST_NLIST
        assert rebuild(policy, plan, count, dimension) is None
