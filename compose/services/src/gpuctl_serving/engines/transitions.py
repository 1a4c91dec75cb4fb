"""How an event changes the state of a model's engines, and what is to be done: a pure function.

`reduce` knows no clock, no thread and no engine. Whoever runs it calls it again at `deadlines.next_deadline`.
"""

from dataclasses import dataclass, field, replace
from typing import assert_never

from gpuctl_serving.engines.deadlines import late_at
from gpuctl_serving.engines.state import (
    Announce,
    Began,
    CanaryRight,
    Effect,
    Event,
    Fault,
    Idle,
    Loaded,
    Policy,
    Prove,
    Proving,
    Reason,
    Slot,
    SlotName,
    Start,
    Starting,
    State,
    Stop,
    Stumble,
    Tick,
    Up,
    Waiting,
    view,
)


@dataclass
class _Step:
    """A state on its way to the next, with the effects gathered so far."""

    state: State
    now: float
    effects: list[Effect] = field(default_factory=list)

    def put(self, name: SlotName, slot: Slot) -> None:
        self.state = (
            replace(self.state, primary=slot) if name == "primary" else replace(self.state, fallback=slot)
        )

    def named(self) -> list[tuple[SlotName, Slot]]:
        slots: list[tuple[SlotName, Slot]] = [("primary", self.state.primary)]
        if self.state.fallback is not None:
            slots.append(("fallback", self.state.fallback))
        return slots


def reduce(state: State, event: Event) -> tuple[State, list[Effect]]:
    """The next state, and what to do, in this order."""
    step = _Step(state, event.now)
    match event:
        case Began():
            _start(step, "primary", state.primary)
        case Loaded() | CanaryRight() | Fault() | Stumble():
            _heard(step, event)
        case Tick():
            _overdue(step)
        case _ as never:
            assert_never(never)
    _settle(step)
    before, after = view(state), view(step.state)
    if before != after:
        step.effects.append(Announce(before, after))
    return step.state, step.effects


def backoff(policy: Policy, losses: int, *, alone: bool = False) -> float:
    """Seconds before the start that follows this many losses; fewer for one that nothing stands in for."""
    cap = min(policy.backoff_cap, policy.alone_cap) if alone else policy.backoff_cap
    return float(min(cap, policy.backoff * 2.0 ** min(losses, 30)))


def _start(step: _Step, name: SlotName, slot: Slot) -> None:
    run = slot.run + 1
    step.put(
        name, replace(slot, status=Starting(step.now + step.state.policy.start_limit), run=run, stumbled=())
    )
    step.effects.append(Start(name, run))


def _heard(step: _Step, event: Loaded | CanaryRight | Fault | Stumble) -> None:
    slot = step.state.slot(event.slot)
    if slot is None or slot.run != event.run or isinstance(slot.status, Idle | Waiting):
        return  # Of an engine that was given up meanwhile.
    match event:
        case Loaded():
            if isinstance(slot.status, Starting):
                step.put(event.slot, replace(slot, status=Proving(0, step.now, step.now, None)))
        case CanaryRight():
            _canary_right(step, event.slot, slot)
        case Fault(reason=reason, detail=detail):
            _lose(step, event.slot, slot, reason, detail)
        case Stumble(reason=reason, detail=detail):
            _stumble(step, event.slot, slot, reason, detail)
        case _ as never:
            assert_never(never)


def _canary_right(step: _Step, name: SlotName, slot: Slot) -> None:
    policy, status = step.state.policy, slot.status
    if isinstance(status, Up):
        step.put(name, replace(slot, status=Up(status.since, step.now + policy.recheck_every, None)))
    elif isinstance(status, Proving):
        due = step.now + policy.prove_every
        step.put(name, replace(slot, status=Proving(status.good + 1, status.since, due, None)))


def _stumble(step: _Step, name: SlotName, slot: Slot, reason: Reason, detail: str) -> None:
    """Its canary is right: it is given up only when it keeps stumbling and another one can take over."""
    policy = step.state.policy
    recent = (*(at for at in slot.stumbled if at > step.now - policy.stumble_window), step.now)
    slot = replace(slot, stumbled=recent[-policy.stumbles :])
    step.put(name, slot)
    if len(recent) >= policy.stumbles and name == "primary" and step.state.fallback is not None:
        _lose(step, name, slot, reason, detail)


def _lose(step: _Step, name: SlotName, slot: Slot, reason: Reason, detail: str) -> None:
    policy, status = step.state.policy, slot.status
    long_up = isinstance(status, Up) and step.now - status.since >= policy.stable
    losses = 0 if long_up else slot.losses
    # With another engine to answer there is no hurry; without one the first restart is at once.
    alone = name == "fallback" or step.state.fallback is None
    hurry = losses == 0 and alone and isinstance(status, Up)
    wait = backoff(policy, max(0, losses - 1), alone=True) if alone else backoff(policy, losses)
    until = step.now if hurry else step.now + wait
    bad_starts = slot.bad_starts + (0 if isinstance(status, Up) else 1)
    step.effects.append(Stop(name, slot.run))
    step.put(
        name,
        replace(
            slot,
            status=Waiting(until),
            losses=losses + 1,
            bad_starts=bad_starts,
            reason=reason,
            detail=detail,
            stumbled=(),
        ),
    )


def _overdue(step: _Step) -> None:
    """Gives up what hangs."""
    policy = step.state.policy
    for name, slot in step.named():
        status = slot.status
        if isinstance(status, Starting) and status.limit <= step.now:
            _lose(step, name, slot, "worker-hung", f"it did not load within {policy.start_limit:.0f} s")
        elif isinstance(status, Proving | Up) and status.limit is not None and status.limit <= step.now:
            _lose(step, name, slot, "worker-hung", f"no canary within {policy.prove_limit:.0f} s")


def _settle(step: _Step) -> None:
    """What follows from the state alone: promotion, starts that are due, canaries that are due."""
    for name, slot in step.named():
        if isinstance(slot.status, Proving) and _convinced(step, name, slot.status):
            up = Up(step.now, step.now + step.state.policy.recheck_every, None)
            step.put(name, replace(slot, status=up, bad_starts=0, reason=None, detail=""))
    for name, slot in step.named():
        if isinstance(slot.status, Waiting) and slot.status.until <= step.now:
            _start(step, name, slot)
    _mind_fallback(step)
    for name, slot in step.named():
        status = slot.status
        if isinstance(status, Proving | Up) and status.limit is None and status.due <= step.now:
            limit = step.now + step.state.policy.prove_limit
            step.put(name, replace(slot, status=replace(status, limit=limit)))
            step.effects.append(Prove(name, slot.run))
    if step.state.serving is not None and not step.state.served:
        step.state = replace(step.state, served=True)


def _convinced(step: _Step, name: SlotName, status: Proving) -> bool:
    """Never without a right canary; against a fallback that answers it takes several, over some time."""
    if status.good == 0:
        return False
    if name == "fallback" or step.state.serving is None:
        return True
    policy = step.state.policy
    return status.good >= policy.canaries and step.now - status.since >= policy.settle


def _mind_fallback(step: _Step) -> None:
    """Starts the fallback when it is wanted; a lazy one ends when the primary has been up for long."""
    fallback, primary, policy = step.state.fallback, step.state.primary, step.state.policy
    if fallback is None:
        return
    long_up = isinstance(primary.status, Up) and step.now - primary.status.since >= policy.stable
    if isinstance(fallback.status, Idle):
        lost = not primary.up and primary.losses > 0
        late = (at := late_at(step.state)) is not None and at <= step.now
        if late and not lost:
            detail = f"it has not loaded for {policy.late_start:.0f} s"
            step.put("primary", replace(primary, reason="worker-hung", detail=detail))
        if lost or late or (policy.eager_fallback and primary.up):
            _start(step, "fallback", fallback)
    elif long_up and not policy.eager_fallback:
        if not isinstance(fallback.status, Waiting):
            step.effects.append(Stop("fallback", fallback.run))
        step.put("fallback", replace(fallback, status=Idle(), losses=0, bad_starts=0))
