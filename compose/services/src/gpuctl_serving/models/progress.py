"""What a fetch tells while it works: one JSON object a line."""

import sys
import time
from typing import Any, TextIO

import orjson


class Progress:
    """Writes events. At most ten amounts a second, so that a slow reader is not buried."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stdout
        self._last = 0.0

    def amount(self, label: str, done: int, total: int | None, unit: str) -> None:
        """How far a step is; `total` is None when nobody knows."""
        now = time.monotonic()
        if done == total or now - self._last >= 0.1:
            self._last = now
            self.emit({"event": "progress", "label": label, "done": done, "total": total, "unit": unit})

    def emit(self, event: dict[str, Any]) -> None:
        """Writes one event at once."""
        self._stream.write(orjson.dumps(event).decode() + "\n")
        self._stream.flush()
