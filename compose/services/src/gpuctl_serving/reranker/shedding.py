"""How many candidates a fallback ranks, and what becomes of the others."""

from collections.abc import Sequence

import numpy as np

from gpuctl_serving.reranker.scoring import Scores

#: Characters a token has, roughly.
_CHARACTERS_A_TOKEN = 4
#: Candidates while the speed of the fallback is not known yet.
_AT_FIRST = 32


def affordable(
    texts: Sequence[str], query: str, *, tokens_per_second: float, seconds: float, max_tokens: int
) -> int:
    """How many of these texts, from the first, can be ranked in so many seconds; at least one."""
    if tokens_per_second <= 0:
        return _AT_FIRST
    left = tokens_per_second * seconds
    for count, text in enumerate(texts):
        left -= min(max_tokens, 3 + (len(query) + len(text)) // _CHARACTERS_A_TOKEN)
        if left < 0:
            return max(1, count)
    return max(1, len(texts))


def with_unranked(scores: Scores, total: int, *, raw: bool) -> Scores:
    """Scores of all candidates: those that no model ranked come last, in the order they were given."""
    missing = total - len(scores)
    if missing <= 0:
        return scores
    floor = float(scores.min()) if len(scores) else 0.0
    steps = np.arange(1, missing + 1, dtype=np.float32)
    below = floor - steps if raw else floor * (1 - steps / (missing + 1))
    return np.concatenate([scores, below.astype(np.float32)])
