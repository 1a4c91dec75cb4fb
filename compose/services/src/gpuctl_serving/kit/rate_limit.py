"""How much one key may ask: token buckets, in requests and in the model's tokens."""

import math
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Unit = Literal["requests", "tokens"]

_PERIODS = {"s": 1, "second": 1, "m": 60, "min": 60, "minute": 60, "h": 3600, "hour": 3600}
_LIMIT = re.compile(r"(\d{1,12})\s*(requests?|tokens?)?\s*/\s*([a-z]+)")


@dataclass(frozen=True)
class Limit:
    """At most `amount` a period; a pause saves up to one period's worth."""

    amount: int
    seconds: int
    unit: Unit

    @property
    def rate(self) -> float:
        """What comes back each second."""
        return self.amount / self.seconds

    def __str__(self) -> str:
        return (
            f"{self.amount} {self.unit} every {'second' if self.seconds == 1 else f'{self.seconds} seconds'}"
        )


def parse_limits(text: str) -> tuple[Limit, ...]:
    """`100/s`, `600 requests/min, 200000 tokens/min`; empty means no limit. Raises ValueError."""
    return tuple(_limit(part.strip()) for part in text.split(",") if part.strip())


def _limit(text: str) -> Limit:
    found = _LIMIT.fullmatch(text.lower())
    if found is None or found[3] not in _PERIODS or int(found[1]) == 0:
        raise ValueError(f"{text!r} is no limit; write for example 100/s, 600/min or 200000 tokens/min")
    unit: Unit = "tokens" if (found[2] or "").startswith("token") else "requests"
    return Limit(int(found[1]), _PERIODS[found[3]], unit)


class _Bucket:
    """What is left of one limit; below zero after an answer that cost more than was left."""

    def __init__(self, limit: Limit, now: float) -> None:
        self.limit = limit
        self._left = float(limit.amount)
        self._at = now

    def left(self, now: float) -> float:
        self._left = min(self.limit.amount, self._left + (now - self._at) * self.limit.rate)
        self._at = now
        return self._left

    def take(self, amount: float) -> None:
        self._left -= amount


class RateLimiter:
    """The buckets of every key that asked lately. Keys are known by their digest alone."""

    def __init__(self, limits: tuple[Limit, ...], clock: Callable[[], float] = time.monotonic) -> None:
        self._limits = limits
        self._clock = clock
        self._buckets: dict[bytes, list[_Bucket]] = {}

    def __bool__(self) -> bool:
        return bool(self._limits)

    def admit(self, who: bytes) -> tuple[int, Limit] | None:
        """Counts one request. When it is over a limit: the seconds until the next may come, and which limit.

        A request needs one whole request left, and more than no tokens: what it will cost is known later.
        """
        now = self._clock()
        buckets = self._of(who, now)
        waits = [(_wait(bucket, now), bucket.limit) for bucket in buckets]
        longest, limit = max(waits, key=lambda wait: wait[0], default=(0.0, None))
        if limit is not None and longest > 0:
            return max(1, math.ceil(longest)), limit
        for bucket in buckets:
            if bucket.limit.unit == "requests":
                bucket.take(1)
        return None

    def charge(self, who: bytes, tokens: int) -> None:
        """Takes what an answer cost the model."""
        for bucket in self._of(who, self._clock()):
            if bucket.limit.unit == "tokens":
                bucket.take(tokens)

    def keep_only(self, known: frozenset[bytes]) -> None:
        """Forgets keys that were taken away."""
        self._buckets = {who: buckets for who, buckets in self._buckets.items() if who in known}

    def _of(self, who: bytes, now: float) -> list[_Bucket]:
        buckets = self._buckets.get(who)
        if buckets is None:
            buckets = self._buckets[who] = [_Bucket(limit, now) for limit in self._limits]
        return buckets


def _wait(bucket: _Bucket, now: float) -> float:
    """Seconds until there is enough for a request; 0 when there is."""
    # A hair more than nothing, so that rounding never admits a moment before its time.
    needed = 1.0 if bucket.limit.unit == "requests" else 1e-6
    return max(0.0, (needed - bucket.left(now)) / bucket.limit.rate)
