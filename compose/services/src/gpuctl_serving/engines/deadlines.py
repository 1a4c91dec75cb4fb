"""When time alone changes the state of a model's engines."""

from typing import assert_never

from gpuctl_serving.engines.state import Idle, Proving, Starting, State, Status, Up, Waiting


def next_deadline(state: State) -> float | None:
    """When `reduce` wants a Tick at the latest."""
    times = [_deadline(slot.status) for slot in (state.primary, state.fallback) if slot is not None]
    times.append(late_at(state))
    return min((at for at in times if at is not None), default=None)


def late_at(state: State) -> float | None:
    """When the fallback is started because the primary is still loading."""
    starting, fallback, policy = state.primary.status, state.fallback, state.policy
    if not isinstance(starting, Starting) or fallback is None or not isinstance(fallback.status, Idle):
        return None
    return starting.limit - policy.start_limit + policy.late_start


def _deadline(status: Status) -> float | None:
    match status:
        case Idle():
            return None
        case Starting(limit):
            return limit
        case Proving(due=due, limit=limit) | Up(due=due, limit=limit):
            return due if limit is None else limit
        case Waiting(until):
            return until
        case _ as never:
            assert_never(never)
