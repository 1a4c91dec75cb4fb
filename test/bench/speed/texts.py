"""Real texts: descriptions of Debian's packages; this repository's documentation where there is no apt."""

import random
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path

from tokenizers import Tokenizer

ROOT = Path(__file__).parents[3]
#: Makes the mean of the mixed lengths 27 % of their range.
_SKEW = 2.7


@cache
def sentences() -> tuple[str, ...]:
    """Different short texts, some ten thousand of them from Debian, in an order that is always the same."""
    found = _debian() if shutil.which("apt-cache") else []
    if len(found) < 5000:
        found = [*found, *_documentation()]
    unique = sorted(set(found))
    random.Random(7).shuffle(unique)  # noqa: S311 - a reproducible order, not a secret
    return tuple(unique)


def _debian() -> list[str]:
    text = subprocess.run(["apt-cache", "dumpavail"], capture_output=True, text=True, check=False).stdout
    return [line for line in re.findall(r"^Description(?:-en)?: (.+)$", text, re.M) if 12 < len(line) < 200]


def _documentation() -> list[str]:
    words = []
    for file in sorted((ROOT / "docs").rglob("*.md")):
        words += file.read_text(encoding="utf-8").split()
    return [" ".join(words[at : at + 11]) for at in range(0, len(words) - 11, 3)]


class Corpus:
    """Gives texts of wanted lengths; never the same text twice, so that no cache and no coalescing helps."""

    def __init__(self, tokenizer_file: Path) -> None:
        self._tokenizer = Tokenizer.from_file(str(tokenizer_file))
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._at = 0

    def short(self, count: int) -> list[str]:
        """As they are: about a dozen tokens each."""
        taken = [self._next() for _ in range(count)]
        return [f"{text} {number}" for number, text in enumerate(taken, self._at)]

    def long(self, count: int, tokens: int) -> list[str]:
        """Descriptions one after the other, cut to exactly so many tokens, the special ones included."""
        return [self._cut(tokens) for _ in range(count)]

    def mixed(self, count: int, seed: int, shortest: int = 4, longest: int = 264) -> list[str]:
        """Many short texts, few long ones: 74 tokens on average of 4 to 264, so that 32 as they come pad to 3.5.

        What is above the model's limit is cut by it.
        """
        dice = random.Random(seed)  # noqa: S311 - as above
        return [
            self._cut(round(shortest + (longest - shortest) * dice.random() ** _SKEW)) for _ in range(count)
        ]

    def _cut(self, tokens: int) -> str:
        text = f"{self._at}"
        while True:
            text = f"{text} {self._next()}"
            offsets = self._tokenizer.encode(text, add_special_tokens=False).offsets
            if len(offsets) >= tokens - 2:
                return text[: offsets[tokens - 3][1]]

    def _next(self) -> str:
        all_texts = sentences()
        self._at += 1
        return all_texts[self._at % len(all_texts)]
