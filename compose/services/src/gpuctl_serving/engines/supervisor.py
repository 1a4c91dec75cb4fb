"""Runs the state machine over real engines: starts, proves, watches and ends them, says which one serves."""

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import TypeVar

from gpuctl_serving.engines.deadlines import next_deadline
from gpuctl_serving.engines.held import EngineFactory, Held, Part, Proof, reason_of
from gpuctl_serving.engines.holdings import Holdings
from gpuctl_serving.engines.protocol import DeviceLost
from gpuctl_serving.engines.state import (
    Announce,
    Began,
    CanaryRight,
    Effect,
    Event,
    Fault,
    Policy,
    Prove,
    Reason,
    Slot,
    SlotName,
    Start,
    Starting,
    Stop,
    Stumble,
    Tick,
    View,
    initial,
    view,
)
from gpuctl_serving.engines.transitions import reduce
from gpuctl_serving.kit.logs import Log

#: What warming up may add to a start; a slow engine runs the rest of its shapes while nobody asks anything.
_WARM_SECONDS = 0.7
#: The same of a restart that requests wait for.
_HURRIED_WARM_SECONDS = 0.1
#: How often engines are looked at that nobody is asking anything.
_LOOK_SECONDS = 1.0

T = TypeVar("T")
OnChange = Callable[[View, View], None]
#: Why the GPU cannot be trusted now, or None; asked every second, so it must not block.
GpuFault = Callable[[], str | None]
OnStart = Callable[[SlotName, int], None]
#: Has the thread that runs batches do something before its next one.
Between = Callable[[Callable[[], None]], None]

log = Log(__name__)


class Supervisor:
    """Owns the engines of a model. Every method is for any thread; none waits for an engine but `start`."""

    def __init__(
        self,
        parts: Mapping[SlotName, Part],
        factory: EngineFactory,
        *,
        between: Between,
        on_change: OnChange,
        on_start: OnStart = lambda _slot, _run: None,
        policy: Policy | None = None,
        shortfall: str = "",
        gpu_fault: GpuFault = lambda: None,
    ) -> None:
        self._parts = parts
        self._gpu_fault = gpu_fault
        self._between = between
        self._on_change = on_change
        self._on_start = on_start
        fallback = parts.get("fallback")
        self._state = initial(
            parts["primary"].spec.device,
            None if fallback is None else fallback.spec.device,
            policy or Policy(),
            shortfall,
        )
        #: The last state that was put into words.
        self._told = (self._state, view(self._state))
        self._changed = threading.Condition(threading.RLock())
        #: Events, of which the first is being worked on.
        self._heard: deque[Event] = deque()
        self._engines = Holdings(parts, factory, self._changed, self._wanted, self._hear, self._warm_seconds)
        self._closed = False

    def start(self) -> View:
        """Loads. Returns once an engine serves, or once none can (`failed`)."""
        self._hear(Began(time.monotonic()))
        threading.Thread(target=self._mind, name="supervisor", daemon=True).start()
        with self._changed:
            self._changed.wait_for(
                lambda: self._closed or self._state.serving is not None or self.view.phase == "failed"
            )
        return self.view

    @property
    def view(self) -> View:
        """What the world is told now. Asked several times a request, and made once a state."""
        state, told = self._told
        if state is not self._state:
            state = self._state
            told = view(state)
            self._told = (state, told)
        return told

    @property
    def serving(self) -> Held | None:
        """The engine that gets the batches."""
        with self._changed:
            name = self._state.serving
            return None if name is None else self._engines.get(name)

    def held(self, name: SlotName) -> Held | None:
        """The engine a slot has now, up or not."""
        return self._engines.get(name)

    def slots(self) -> dict[SlotName, Slot]:
        """Every slot as it is now."""
        state = self._state
        found: dict[SlotName, Slot] = {"primary": state.primary}
        if state.fallback is not None:
            found["fallback"] = state.fallback
        return found

    def part(self, name: SlotName) -> Part:
        """What a slot is for."""
        return self._parts[name]

    def engine_for(self, model: str, *, retry: bool) -> Held | None:
        """An engine that is up and runs this model; the fallback first for what failed once."""
        order: tuple[SlotName, ...] = ("fallback", "primary") if retry else ("primary", "fallback")
        with self._changed:
            for name in order:
                slot, held = self._state.slot(name), self._engines.get(name)
                if slot is not None and held is not None and slot.up and held.part.model == model:
                    return held
        return None

    def wait(self, seconds: float) -> None:
        """Returns when something changed, at the latest after so many seconds."""
        with self._changed:
            if not self._closed:
                self._changed.wait(seconds)

    def lose(self, held: Held, reason: Reason, detail: str) -> None:
        """This engine cannot be used any more."""
        self._hear(Fault(time.monotonic(), held.slot, held.run, reason, detail))

    def stumble(self, held: Held, reason: Reason, detail: str) -> None:
        """A batch went wrong on this engine, though its canary is right."""
        self._hear(Stumble(time.monotonic(), held.slot, held.run, reason, detail))

    def prove(self, held: Held) -> Proof:
        """Asks the canary now, on the caller's thread; the state hears the outcome. Raises DeviceLost."""
        try:
            proof = held.prove()
        except Exception as failure:  # A library raises its own: an engine that fails its canary is lost.
            self.lose(held, reason_of(failure), str(failure))
            raise failure if isinstance(failure, DeviceLost) else DeviceLost(str(failure)) from failure
        now = time.monotonic()
        if proof.reason is None:
            self._hear(CanaryRight(now, held.slot, held.run))
        else:
            self._hear(Fault(now, held.slot, held.run, proof.reason, proof.detail))
        return proof

    def run_on_serving(self, errand: Callable[[Held], T]) -> "Future[T]":
        """Does something with the engine that serves, between two batches."""
        future: Future[T] = Future()

        def run() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                if (held := self.serving) is None:
                    raise DeviceLost(self.view.detail or "no engine is up")
                future.set_result(errand(held))
            except BaseException as failure:
                future.set_exception(failure)

        self._between(run)
        return future

    def prove_serving(self) -> "Future[tuple[Held, Proof]]":
        """A proof of the engine that serves, taken between two batches."""
        return self.run_on_serving(lambda held: (held, self.prove(held)))

    def close(self) -> None:
        """Ends every engine; does not wait long for one that hangs."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._engines.close()

    def _mind(self) -> None:
        """Lets time pass for the state machine; looks at engines that nobody asks anything."""
        while True:
            with self._changed:
                if self._closed:
                    return
                due = next_deadline(self._state)
                left = _LOOK_SECONDS if due is None else due - time.monotonic()
                if left > 0:
                    self._changed.wait(min(left, _LOOK_SECONDS))
            try:
                for held in self._engines.all():
                    self._look_at(held)
                self._hear(Tick(time.monotonic()))
            except Exception:  # Whatever it is: without this thread nothing would ever be restarted.
                log.error("supervisor-failed")
                time.sleep(_LOOK_SECONDS)

    def _look_at(self, held: Held) -> None:
        if held.part.spec.device == "cuda" and (fault := self._gpu_fault()) is not None:
            self.lose(held, "nvml-fault", fault)
            return
        if self._being_loaded(held):
            return
        try:
            held.check()
        except DeviceLost as gone:
            self.lose(held, reason_of(gone), str(gone))

    def _being_loaded(self, held: Held) -> bool:
        """Whether the thread that loads it will say what becomes of it, or already has another in its place.

        What died of a warm-up is made again in the same run: told of its death, the state would give that up.
        """
        with self._changed:
            slot = self._state.slot(held.slot)
            starting = slot is not None and slot.run == held.run and isinstance(slot.status, Starting)
            return starting or self._engines.get(held.slot) is not held

    def _hear(self, event: Event) -> None:
        with self._changed:
            self._heard.append(event)
            if len(self._heard) > 1:
                return  # An effect that is being carried out said so: after the others of its event.
            try:
                while self._heard and not self._closed:
                    self._state, effects = reduce(self._state, self._heard[0])
                    for effect in effects:
                        self._carry_out(effect)
                    if effects:
                        self._changed.notify_all()
                    self._heard.popleft()
            finally:
                self._heard.clear()

    def _wanted(self, name: SlotName, run: int) -> bool:
        """Whether an engine that is being made was not given up meanwhile."""
        slot = self._state.slot(name)
        return not self._closed and slot is not None and slot.run == run and isinstance(slot.status, Starting)

    def _warm_seconds(self, run: int) -> float:
        waited_for = run > 1 and self._state.serving is None
        return _HURRIED_WARM_SECONDS if waited_for else _WARM_SECONDS

    def _carry_out(self, effect: Effect) -> None:
        match effect:
            case Start(slot, run):
                self._on_start(slot, run)
                self._engines.start(slot, run)
            case Stop(slot, _):
                self._engines.end(slot)
            case Prove(slot, _):
                if (held := self._engines.get(slot)) is not None:
                    self._ask_canary(held)
            case Announce(before, after):
                _tell(before, after)
                self._on_change(before, after)

    def _ask_canary(self, held: Held) -> None:
        if self._state.serving == held.slot:
            self._between(lambda: self._prove_quietly(held))
            return
        try:
            threading.Thread(target=self._prove_quietly, args=(held,), name="canary", daemon=True).start()
        except RuntimeError as full:  # No thread is to be had; an engine that cannot be asked is not proven.
            self._hear(Fault(time.monotonic(), held.slot, held.run, "load-failure", str(full)))

    def _prove_quietly(self, held: Held) -> None:
        try:
            self.prove(held)
        except DeviceLost as failure:
            log.warning("canary-failed", slot=held.slot, detail=str(failure))


def _tell(before: View, after: View) -> None:
    told = (before.phase, before.device, before.reason)
    if told == (after.phase, after.device, after.reason):
        return
    emit = log.info if after.phase in ("ready", "loading") else log.warning
    emit("engine-state", state=after.phase, device=after.device, reason=after.reason, detail=after.detail)
