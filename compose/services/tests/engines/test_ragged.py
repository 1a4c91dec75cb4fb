"""Texts of different lengths, flat and in rectangles."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuctl_serving.engines.protocol import EngineError, TokenBatch, Tokens
from gpuctl_serving.engines.ragged import back_to_flat, check_batch, positions_of, rectangles, starts_of

lengths_of_a_batch = st.lists(st.integers(1, 300), min_size=1, max_size=40)


def test_positions_begin_anew_in_every_text() -> None:
    assert positions_of(np.array([3, 1, 2], np.int32)).tolist() == [0, 1, 2, 0, 0, 1]
    assert starts_of(np.array([3, 1, 2], np.int32)).tolist() == [0, 3, 4, 6]


@given(lengths_of_a_batch)
def test_every_token_is_in_exactly_one_rectangle_and_comes_back_to_its_place(lengths: list[int]) -> None:
    sizes = np.array(lengths, np.int32)
    parts = rectangles(sizes)
    tokens = np.arange(sizes.sum())
    cells = np.concatenate([tokens[part.index].reshape(-1) for part in parts])
    assert np.array_equal(cells[back_to_flat(parts)], tokens)


@given(lengths_of_a_batch)
def test_rectangles_pad_little(lengths: list[int]) -> None:
    for part in rectangles(np.array(lengths, np.int32)):
        cells = part.index.size
        real = cells if part.mask is None else int(part.mask.sum())
        assert cells <= real * 1.25 or cells - real <= 1024


def test_texts_of_one_length_share_a_rectangle_without_a_mask() -> None:
    (part,) = rectangles(np.full(8, 17, np.int32))
    assert part.index.shape == (8, 17)
    assert part.mask is None


def test_one_long_text_does_not_pad_many_short_ones() -> None:
    assert len(rectangles(np.array([2000] + [10] * 30, np.int32))) == 2


def batch(*ids: int, types: list[int] | None = None) -> TokenBatch:
    kinds = None if types is None else np.array(types, np.int32)
    return TokenBatch.of([Tokens(np.array(ids, np.int32), kinds, truncated=False)], 0)


@pytest.mark.parametrize(
    ("wrong", "because"),
    [
        (batch(1, 100), "vocabulary of 100"),
        (batch(-1), "vocabulary of 100"),
        (batch(1, 2, 3, 4, 5), "5 tokens and the model takes 4"),
        (batch(1, 2, types=[0, 2]), "token type"),
        (TokenBatch(np.zeros(0, np.int32), None, np.zeros(1, np.int32), 0), "without tokens"),
    ],
)
def test_tokens_that_would_poison_a_gpu_are_refused_before_it_sees_them(
    wrong: TokenBatch, because: str
) -> None:
    with pytest.raises(EngineError, match=because):
        check_batch(wrong, vocabulary=100, positions=4, segments=2)


def test_tokens_the_model_knows_pass() -> None:
    check_batch(batch(0, 99, types=[0, 1]), vocabulary=100, positions=4, segments=2)
