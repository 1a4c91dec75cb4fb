"""The engines that exist: each is made, loaded and ended on a thread of its own."""

import threading
import time
from collections.abc import Callable, Mapping

from gpuctl_serving.engines.held import EngineFactory, Held, Part, reason_of
from gpuctl_serving.engines.protocol import DeviceLost
from gpuctl_serving.engines.state import Event, Fault, Loaded, SlotName
from gpuctl_serving.kit.logs import Log

#: How long a new engine waits for its predecessor to give the device's memory back.
_HANDOVER_SECONDS = 15.0
_CLOSE_SECONDS = 5.0

log = Log(__name__)


class _DiedOfWarmUp(Exception):
    """An engine was lost while it ran its first batches."""

    def __init__(self, held: Held, failure: DeviceLost) -> None:
        super().__init__(str(failure))
        self.held = held


class Holdings:
    """At most one engine a slot. `lock` is that of the state that decides about them."""

    def __init__(
        self,
        parts: Mapping[SlotName, Part],
        factory: EngineFactory,
        lock: threading.Condition,
        wanted: Callable[[SlotName, int], bool],
        hear: Callable[[Event], None],
        warm_seconds: Callable[[int], float],
    ) -> None:
        self._parts, self._factory = parts, factory
        self._lock, self._wanted, self._hear = lock, wanted, hear
        self._warm_seconds = warm_seconds
        self._held: dict[SlotName, Held] = {}
        self._endings: dict[SlotName, threading.Thread] = {}
        #: Slots whose engine died of a warm-up: requests may never ask for what killed it.
        self._never_warm: set[SlotName] = set()

    def get(self, name: SlotName) -> Held | None:
        """The engine of a slot, loaded or not."""
        with self._lock:
            return self._held.get(name)

    def all(self) -> list[Held]:
        """Every engine."""
        with self._lock:
            return [*self._held.values()]

    def start(self, name: SlotName, run: int) -> None:
        """Makes and loads an engine; `hear` is told how that went."""
        thread = threading.Thread(target=self._load, args=(name, run), name=f"load-{name}-{run}", daemon=True)
        try:
            thread.start()
        except RuntimeError as full:  # No thread is to be had: too many processes, or no memory.
            self._hear(Fault(time.monotonic(), name, run, "load-failure", str(full)))

    def end(self, name: SlotName) -> None:
        """Ends the engine of a slot, whatever it is doing; does not wait."""
        held = self._held.pop(name, None)
        if held is None:
            return
        ending = threading.Thread(target=_end_quietly, args=(held,), name=f"end-{name}", daemon=True)
        try:
            ending.start()
        except RuntimeError:  # As above. Whoever asked waits, rather than that it keeps its memory.
            _end_quietly(held)
        else:
            self._endings[name] = ending

    def close(self) -> None:
        """Ends all; does not wait long for one that hangs."""
        with self._lock:
            for name in [*self._held]:
                self.end(name)
            endings = [*self._endings.values()]
        until = time.monotonic() + _CLOSE_SECONDS
        for ending in endings:
            ending.join(max(0.0, until - time.monotonic()))

    def _load(self, name: SlotName, run: int) -> None:
        """It may take minutes, or never end."""
        if (before := self._endings.get(name)) is not None:
            before.join(_HANDOVER_SECONDS)
        try:
            event = self._load_and_warm(name, run)
        except Exception as failure:  # Whatever a library raises while loading, this engine is not usable.
            reason = reason_of(failure) if isinstance(failure, DeviceLost) else "load-failure"
            event = Fault(time.monotonic(), name, run, reason, str(failure) or type(failure).__name__)
        if event is not None:
            self._hear(event)

    def _load_and_warm(self, name: SlotName, run: int) -> Event | None:
        try:
            return self._try_to_load(name, run)
        except _DiedOfWarmUp as died:
            log.error("warm-up-lost-the-engine", slot=name, detail=str(died))
            self._never_warm.add(name)
            _end_quietly(died.held)
            return self._try_to_load(name, run)

    def _try_to_load(self, name: SlotName, run: int) -> Event | None:
        part, started = self._parts[name], time.monotonic()
        held = Held(name, run, part, self._factory(part.spec))
        if not self._adopt(held):
            held.end()
            return None
        wrong = held.load()
        facts, now = held.facts, time.monotonic()
        if wrong is not None and facts is not None:
            detail = f"the session runs on {', '.join(facts.providers)}, not on {part.spec.device}"
            return Fault(now, name, run, wrong, detail)
        if facts is not None:
            ms = round((now - started) * 1000)
            log.info("engine-loaded", slot=name, engine=facts.name, device=facts.device, ms=ms)
        self._warm(held)
        return Loaded(time.monotonic(), name, run)

    def _warm(self, held: Held) -> None:
        """Before it is promoted: first batches of a shape are slow, and nobody waits for these."""
        if held.slot in self._never_warm:
            held.warmup.cold.clear()
            return
        shapes, started = len(held.warmup.cold), time.monotonic()
        try:
            held.warm_for(self._warm_seconds(held.run))
        except DeviceLost as failure:
            raise _DiedOfWarmUp(held, failure) from failure
        ms, left = round((time.monotonic() - started) * 1000), len(held.warmup.cold)
        log.info("engine-warmed", slot=held.slot, shapes=shapes - left, left=left, ms=ms)

    def _adopt(self, held: Held) -> bool:
        """Takes a new engine in, unless it was given up while it was being made."""
        with self._lock:
            wanted = self._wanted(held.slot, held.run)
            if wanted:
                self._held[held.slot] = held
            return wanted


def _end_quietly(held: Held) -> None:
    try:
        held.end()
    except Exception:  # It is given up already: nothing more can be done about it than to say so.
        log.error("engine-not-closed", slot=held.slot)
