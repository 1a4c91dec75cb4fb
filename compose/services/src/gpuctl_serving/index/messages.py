"""What the writer's thread is asked, and what it answers."""

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from gpuctl_serving.index.live import Work
from gpuctl_serving.kit.errors import ServiceError


def _outcome() -> Future[Any]:
    # Marked running at once: a client that goes away must not cancel what the writer will answer.
    outcome: Future[Any] = Future()
    outcome.set_running_or_notify_cancel()
    return outcome


@dataclass(frozen=True)
class Elsewhere:
    """This instance is not the writer; that address is (empty: nobody is known)."""

    address: str


@dataclass
class Write:
    """One change waiting for its commit."""

    work: Work
    #: The time.monotonic() after which nobody waits for it.
    deadline: float
    #: Passed on by an instance that handed over: waits for the takeover instead of being sent back.
    forwarded: bool = False
    #: Part of a handover itself: runs while other writes are held.
    internal: bool = False
    outcome: Future[Any] = field(default_factory=_outcome)


@dataclass
class Call:
    """Something to run in the thread, in its turn."""

    run: Callable[[], Any]
    outcome: Future[Any] = field(default_factory=_outcome)


@dataclass
class Hold:
    """A handover this instance began; times are time.monotonic()."""

    token: int
    began: float
    deadline: float
    successor: str


@dataclass
class Take:
    """A takeover this instance was asked for."""

    began: float
    deadline: float
    outcome: Future[dict[str, int]] = field(default_factory=_outcome)


def settle(call: Call) -> None:
    """Runs it and passes on how that ended."""
    try:
        call.outcome.set_result(call.run())
    except Exception as failure:
        call.outcome.set_exception(failure)


def not_writer(holder: str) -> ServiceError:
    """409: only the writer can do what was asked."""
    who = f" ({holder})" if holder else ""
    return ServiceError(
        409, "NotWriter", f"This instance does not hold the writer lock; another does{who}. Ask that one."
    )


def milliseconds(seconds: float) -> int:
    """Whole milliseconds."""
    return round(seconds * 1000)
