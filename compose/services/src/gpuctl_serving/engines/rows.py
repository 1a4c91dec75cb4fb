"""What waits for the engine: rows (one text or pair each), owned by the jobs of requests."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from gpuctl_serving.engines.protocol import Device, EngineSpec, Rows, Tokens

#: (position in the job, its answer, the engine that gave it); the answer is a view that is to be copied.
OnRow = Callable[[int, Rows, EngineSpec], None]


@dataclass(slots=True, eq=False)
class Row:
    """One sequence to run once, for everyone who waits for it."""

    tokens: Tokens
    key: bytes
    #: The model it was tokenised for.
    model: str = ""
    #: (job, position in the job's answer) of everyone who gets the result.
    waiters: list[tuple["Job", int]] = field(default_factory=list)
    #: Engines lost, or wrong, while they had it.
    losses: int = 0

    def __len__(self) -> int:
        return len(self.tokens)


@dataclass(slots=True, eq=False)
class Job:
    """The rows of one request."""

    loop: asyncio.AbstractEventLoop
    future: "asyncio.Future[Rows]"
    size: int
    admitted: float
    #: The model its rows were tokenised for.
    model: str = ""
    #: Rows this job owns that no batch has taken yet, longest first.
    pending: list[Row] = field(default_factory=list)
    #: Every row it waits for, owned or not.
    waits_for: list[Row] = field(default_factory=list)
    answer: Rows | None = None
    left: int = 0
    queue_ms: float = 0.0
    inference_ms: float = 0.0
    #: Of its last batch alone.
    last_ms: float = 0.0
    #: Where its rows were computed.
    devices: set[Device] = field(default_factory=set)
    #: Told of each row as soon as it is there, on the job's loop.
    on_row: "OnRow | None" = None
    #: Tokens of rows that were already in flight for somebody else.
    shared_tokens: int = 0


def row_key(model: str, tokens: Tokens) -> bytes:
    """Equal keys give equal answers."""
    types = b"" if tokens.types is None else tokens.types.tobytes()
    return b"%b\0%b|%b" % (model.encode(), tokens.ids.tobytes(), types)


def by_request(rows: list[Row]) -> list[list[Row]]:
    """The rows of each request apart, in order; those that nobody waits for any more are one group."""
    groups: dict[int, list[Row]] = {}
    for row in rows:
        waiters = row.waiters  # Another thread may replace the list meanwhile.
        groups.setdefault(id(waiters[0][0]) if waiters else 0, []).append(row)
    return [*groups.values()]
