"""What crosses between the front and its engine, beside the numbers: small typed records."""

from collections.abc import Iterator
from errno import ENOMEM

import msgspec

from gpuctl_serving.engines.protocol import EngineError, EngineFacts, EngineSpec, OutOfMemory

#: Longest message of an error that is carried over: a library may print a whole graph.
_MOST_MESSAGE = 4000


class Start(msgspec.Struct, frozen=True):
    """The worker's command line: who it is and what it shares."""

    spec: EngineSpec
    #: Pid of the front: without it the worker ends.
    front: int
    #: Descriptors: the socket, the one for batches beside a running one, the heartbeat's page.
    socket: int
    side: int
    pulse: int
    #: For its log lines.
    service: str
    log_level: str


class Load(msgspec.Struct, frozen=True, tag=True):
    """Asks for Loaded."""

    model: str


class Infer(msgspec.Struct, frozen=True, tag=True):
    """Asks for Answer. The arena holds `texts` lengths, `tokens` ids and, when `typed`, `tokens` types."""

    texts: int
    tokens: int
    typed: bool
    pad_id: int


class Probe(msgspec.Struct, frozen=True, tag=True):
    """Asks for Probed."""


class Memory(msgspec.Struct, frozen=True, tag=True):
    """Asks for Measured."""


class Loaded(msgspec.Struct, frozen=True, tag=True):
    """The engine is loaded."""

    facts: EngineFacts


class Answer(msgspec.Struct, frozen=True, tag=True):
    """The arena holds rows of this shape."""

    shape: tuple[int, ...]


class Probed(msgspec.Struct, frozen=True, tag=True):
    """Providers of the live session."""

    providers: tuple[str, ...]


class Measured(msgspec.Struct, frozen=True, tag=True):
    """Bytes the allocator of the device holds; 0 when unknown."""

    allocated: int


class Failed(msgspec.Struct, frozen=True, tag=True):
    """It could not be done."""

    #: Names of the error's classes below EngineError, the most exact one first; empty for any other error.
    kinds: tuple[str, ...]
    message: str
    #: The label an engine put on it, when it knows better than its class says.
    reason: str | None = None

    @classmethod
    def of(cls, failure: BaseException) -> "Failed":
        """The record of an exception."""
        if isinstance(failure, MemoryError) or (isinstance(failure, OSError) and failure.errno == ENOMEM):
            failure = OutOfMemory(str(failure) or "the process cannot have that much memory")
        kinds = [c.__name__ for c in type(failure).__mro__ if issubclass(c, EngineError)]
        text = str(failure) if kinds else f"{type(failure).__name__}: {failure}"
        reason = getattr(failure, "reason", None)
        return cls(tuple(kinds), text[:_MOST_MESSAGE], reason if isinstance(reason, str) else None)

    def error(self) -> EngineError:
        """The exception to raise on the other side: of the most exact class that this side knows."""
        known = {found.__name__: found for found in _subclasses(EngineError)}
        error = next((known[name] for name in self.kinds if name in known), EngineError)(self.message)
        if self.reason is not None:
            error.__dict__["reason"] = self.reason
        return error


Request = Load | Infer | Probe | Memory
Reply = Loaded | Answer | Probed | Measured | Failed


def _subclasses(base: type[EngineError]) -> Iterator[type[EngineError]]:
    yield base
    for below in base.__subclasses__():
        yield from _subclasses(below)
