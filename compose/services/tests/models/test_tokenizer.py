"""Truncation is the model's, counted, and costs no more than what can reach the model."""

import time
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer

from gpuctl_serving.models.tokenizer import Direction, ModelTokenizer


@pytest.fixture(params=["tiny-bert-cross-encoder", "tiny-xlmr-cross-encoder"])
def file(request: pytest.FixtureRequest, tiny: dict[str, Path]) -> Path:
    return tiny[request.param] / "tokenizer.json"


@pytest.mark.parametrize("direction", ["right", "left"])
@pytest.mark.parametrize("query", ["short", "a long query of many words " * 400, "unbrokenword" * 500])
def test_pairs_are_what_the_library_alone_would_make_of_them(
    file: Path, direction: Direction, query: str
) -> None:
    plain = Tokenizer.from_file(str(file))
    # Room for an even number of tokens: an odd one may go to either of two texts that are both too long.
    limit = 64 + plain.num_special_tokens_to_add(is_pair=True) % 2
    plain.enable_truncation(limit, strategy="longest_first", direction=direction)
    documents = ["", "a document", "a longer document of some words " * 50]
    found = ModelTokenizer(file, limit).pairs(query, documents, direction)
    for tokens, document in zip(found, documents, strict=True):
        wanted = plain.encode(query, document)
        assert np.array_equal(tokens.ids, wanted.ids)
        assert np.array_equal(tokens.types if tokens.types is not None else [], wanted.type_ids)
        assert tokens.truncated == bool(wanted.overflowing)


def test_a_huge_query_is_not_tokenised_whole_for_every_document(file: Path) -> None:
    tokenizer = ModelTokenizer(file, 64)
    started = time.perf_counter()
    rows = tokenizer.pairs("query words " * 300_000, ["document"] * 500)
    assert len(rows) == 500
    assert all(row.truncated for row in rows)
    assert time.perf_counter() - started < 5


def test_left_truncation_keeps_the_end(file: Path) -> None:
    tokenizer = ModelTokenizer(file, 16)
    (cut,) = tokenizer.texts(["one two three " * 100 + "the end"], "left")
    (whole,) = tokenizer.texts(["the end"])
    assert cut.truncated
    assert np.array_equal(cut.ids[-len(whole) + 1 :], whole.ids[1:])
