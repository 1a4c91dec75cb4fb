"""The model's own tokenizer, truncating where the model does and saying so."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, TypedDict

import numpy as np
from tokenizers import Tokenizer

from gpuctl_serving.engines.protocol import Tokens
from gpuctl_serving.models.errors import ModelProblem

Direction = Literal["right", "left"]


class Piece(TypedDict):
    """One token and where it is in its text, in characters; special tokens are nowhere in it."""

    id: int
    text: str
    special: bool
    start: int | None
    stop: int | None


#: No token is longer than this many characters, nearly: text beyond `limit` x this cannot reach the model.
_CHARACTERS_A_TOKEN = 250


class ModelTokenizer:
    """Tokenises texts and pairs. Calls release the GIL; instances may be shared between threads."""

    def __init__(self, file: Path, max_tokens: int) -> None:
        self._json = file.read_text(encoding="utf-8")
        self.max_tokens = max_tokens
        # A tokenizer holds its truncation as state: one for each direction is made when first needed.
        self._by_direction: dict[Direction, Any] = {}
        self._untruncated: Any = None
        self._configured("right")

    def texts(self, texts: Sequence[str], direction: Direction = "right") -> list[Tokens]:
        """Each text with the model's special tokens."""
        limit = self.max_tokens * _CHARACTERS_A_TOKEN
        cut = [text[:limit] if direction == "right" else text[-limit:] for text in texts]
        encoded = self._configured(direction).encode_batch_fast(cut)
        return [
            _tokens(one, len(text) > limit, types=False) for one, text in zip(encoded, texts, strict=True)
        ]

    def pairs(self, query: str, documents: Sequence[str], direction: Direction = "right") -> list[Tokens]:
        """The query with each document; the longer of the two is cut first."""
        limit = self.max_tokens * _CHARACTERS_A_TOKEN
        short = self._query(query, direction)
        pairs = [(short, text[:limit] if direction == "right" else text[-limit:]) for text in documents]
        encoded = self._configured(direction).encode_batch_fast(pairs)
        cut = len(query) > len(short)
        return [
            _tokens(one, cut or len(document) > limit, types=True)
            for one, document in zip(encoded, documents, strict=True)
        ]

    def pieces(self, texts: Sequence[str], *, special: bool = True) -> list[list[Piece]]:
        """Each text in its tokens, all of it; with the model's special tokens unless told otherwise."""
        encoded = self._whole().encode_batch(list(texts), add_special_tokens=special)
        return [_pieces(one, text) for one, text in zip(encoded, texts, strict=True)]

    def shortened(self, texts: Sequence[str], most: int) -> list[str]:
        """Each text up to its first `most` tokens."""
        cut = [text[: most * _CHARACTERS_A_TOKEN] for text in texts]
        encoded = self._whole().encode_batch(cut, add_special_tokens=False)
        return [
            text[: one.offsets[most - 1][1]] if len(one.ids) > most else text
            for one, text in zip(encoded, cut, strict=True)
        ]

    def _query(self, query: str, direction: Direction) -> str:
        """The part of a query that can reach the model: it is tokenised again with every document.

        It keeps twice the limit: the cut changes no token that the model sees, at most which of two
        over-long texts gets the odd one.
        """
        if len(query) <= self.max_tokens:
            return query
        limit = self.max_tokens * _CHARACTERS_A_TOKEN
        query = query[:limit] if direction == "right" else query[-limit:]
        spans = self._whole().encode(query, add_special_tokens=False).offsets
        if len(spans) <= 2 * self.max_tokens:
            return query
        if direction == "right":
            return query[: spans[2 * self.max_tokens][0]]
        return query[spans[-2 * self.max_tokens][0] :]

    def _whole(self) -> Any:
        """The tokenizer without truncation."""
        if self._untruncated is None:
            self._untruncated = self._parsed()
        return self._untruncated

    def pad_id(self, default: int) -> int:
        """The id rows are padded with."""
        for name in ("[PAD]", "<pad>"):
            found = self._configured("right").token_to_id(name)
            if found is not None:
                return int(found)
        return default

    def _configured(self, direction: Direction) -> Any:
        known = self._by_direction.get(direction)
        if known is not None:
            return known
        tokenizer = self._parsed()
        tokenizer.enable_truncation(self.max_tokens, strategy="longest_first", direction=direction)
        self._by_direction[direction] = tokenizer
        return tokenizer

    def _parsed(self) -> Any:
        try:
            tokenizer = Tokenizer.from_str(self._json)
        except Exception as wrong:  # The library raises bare Exception.
            raise ModelProblem("tokenizer.json cannot be read", str(wrong)) from wrong
        tokenizer.no_padding()
        tokenizer.no_truncation()
        return tokenizer


def _tokens(encoding: Any, cut: bool, *, types: bool) -> Tokens:
    return Tokens(
        ids=np.array(encoding.ids, np.int32),
        types=np.array(encoding.type_ids, np.int32) if types else None,
        truncated=cut or bool(encoding.overflowing),
    )


def _pieces(encoding: Any, text: str) -> list[Piece]:
    found = zip(encoding.ids, encoding.tokens, encoding.offsets, encoding.special_tokens_mask, strict=True)
    return [
        Piece(id=id_, text=token, special=True, start=None, stop=None)
        if special
        else Piece(id=id_, text=text[start:stop], special=False, start=start, stop=stop)
        for id_, token, (start, stop), special in found
    ]
