"""How many padded tokens a batch may have: halved when memory runs out, grown back when it holds."""

#: Below this a smaller batch would not help: what does not fit then is one text.
LEAST = 64
#: Seconds without trouble before it grows, at first and at most.
_CALM = 60.0
_CALM_AT_MOST = 3600.0


class BatchBudget:
    """Starts at `most`. Grows by doubling, ever more hesitantly when growing has brought the trouble back."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.tokens = most
        self._calm = _CALM
        self._changed = 0.0
        self._grew = False

    def shrink(self, tried: int, now: float) -> None:
        """Memory ran out on a batch of so many padded tokens."""
        if self._grew:
            self._calm = min(_CALM_AT_MOST, self._calm * 2)
        self._grew, self._changed = False, now
        self.tokens = max(min(LEAST, self.most), min(self.tokens, tried // 2))

    def passed(self, now: float) -> None:
        """A batch passed."""
        if self.tokens < self.most and now - self._changed >= self._calm:
            self.tokens = min(self.most, self.tokens * 2)
            self._grew, self._changed = True, now
