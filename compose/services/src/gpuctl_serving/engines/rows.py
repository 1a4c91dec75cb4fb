"""What waits for the engine: rows (one text or pair each), owned by the jobs of requests."""

import asyncio
from dataclasses import dataclass, field

from gpuctl_serving.engines.protocol import Rows, Tokens


@dataclass(slots=True, eq=False)
class Row:
    """One sequence to run once, for everyone who waits for it."""

    tokens: Tokens
    key: bytes
    #: (job, position in the job's answer) of everyone who gets the result.
    waiters: list[tuple["Job", int]] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.tokens)


@dataclass(slots=True, eq=False)
class Job:
    """The rows of one request."""

    loop: asyncio.AbstractEventLoop
    future: "asyncio.Future[Rows]"
    size: int
    admitted: float
    #: Rows this job owns that no batch has taken yet, longest first.
    pending: list[Row] = field(default_factory=list)
    #: Every row it waits for, owned or not.
    waits_for: list[Row] = field(default_factory=list)
    answer: Rows | None = None
    left: int = 0
    queue_ms: float = 0.0
    inference_ms: float = 0.0


def row_key(tokens: Tokens) -> bytes:
    """Equal keys give equal answers."""
    types = b"" if tokens.types is None else tokens.types.tobytes()
    return tokens.ids.tobytes() + b"|" + types
