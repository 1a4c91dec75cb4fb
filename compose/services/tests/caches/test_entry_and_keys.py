"""Values that prove whose they are, and keys that hold everything an answer depends on."""

import dataclasses
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from gpuctl_serving.caches.entry import Entry, decode, encode
from gpuctl_serving.caches.keys import Identity, KeyMaker

IDENTITY = Identity("model", "r1", "files", "cuda", "float16", "mean", 256)


@given(
    st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=64),
    st.integers(0, 2**32 - 1),
    st.booleans(),
    st.binary(min_size=20, max_size=20),
)
def test_a_value_comes_back_as_it_was(numbers: list[float], tokens: int, truncated: bool, key: bytes) -> None:
    entry = Entry(np.array(numbers, np.float32), tokens, truncated)
    found = decode(key, encode(key, entry), len(numbers))
    assert found is not None
    assert (found.row.tobytes(), found.tokens, found.truncated) == (entry.row.tobytes(), tokens, truncated)


@given(st.data())
def test_one_wrong_bit_a_missing_end_or_another_key_is_a_miss(data: st.DataObject) -> None:
    key, other = b"k" * 20, b"l" * 20
    value = encode(key, Entry(np.arange(8, dtype=np.float32), 7, truncated=True))
    assert decode(other, value, 8) is None
    assert decode(key, value, 9) is None
    assert decode(key, value[: data.draw(st.integers(0, len(value) - 1))], 8) is None
    at, bit = data.draw(st.integers(0, len(value) - 1)), data.draw(st.integers(0, 7))
    flipped = bytearray(value)
    flipped[at] ^= 1 << bit
    assert decode(key, bytes(flipped), 8) is None
    assert decode(key, data.draw(st.binary(max_size=200)), 8) is None


def test_numbers_that_are_not_finite_are_never_taken_from_outside() -> None:
    key = b"k" * 20
    assert decode(key, encode(key, Entry(np.array([1, np.nan], np.float32), 1, truncated=False)), 2) is None


def test_every_fact_of_the_identity_and_the_direction_change_the_key() -> None:
    keys = {KeyMaker(IDENTITY, "right").key(("text",)), KeyMaker(IDENTITY, "left").key(("text",))}
    for field in dataclasses.fields(Identity):
        change: dict[str, Any] = {field.name: 512 if field.name == "max_tokens" else "other"}
        other = dataclasses.replace(IDENTITY, **change)
        keys.add(KeyMaker(other, "right").key(("text",)))
    assert len(keys) == 2 + len(dataclasses.fields(Identity))


def test_no_two_divisions_of_the_same_letters_share_a_key() -> None:
    maker = KeyMaker(IDENTITY, "right")
    inputs = [("ab", "c"), ("a", "bc"), ("abc",), ("abc", ""), ("", "abc"), ("ab\0c",)]
    assert len(set(maker.keys(inputs))) == len(inputs)


def test_a_text_that_is_no_unicode_has_a_key_too() -> None:
    assert len(KeyMaker(IDENTITY, "right").key(("\ud800",))) == 20
