"""What is known of the engines of a model, what may happen to them, and what the world is told.

An engine is in one of two slots: the `primary` is what was asked for, the `fallback` answers in its place.
transitions.py says how an event changes the state; supervisor.py carries its effects out.
"""

from dataclasses import dataclass
from typing import Literal, get_args

from gpuctl_serving.engines.protocol import Device

#: Why an engine does not serve; label values of `gpuctl_fallback_total`.
Reason = Literal[
    "provider-absent",
    "load-failure",
    "canary-mismatch",
    "non-finite",
    "device-error",
    "out-of-memory",
    "worker-died",
    "worker-hung",
    "nvml-fault",
]
REASONS: tuple[Reason, ...] = get_args(Reason)
SlotName = Literal["primary", "fallback"]
#: `loading` until something answers; `ready`: the primary answers; `degraded`: the fallback answers, or the
#: primary is not on the device that was wished; `recovering`: the primary is coming back (the fallback may
#: answer meanwhile); `failed`: nothing answers and restarts have failed (still tried, ever more rarely).
Phase = Literal["loading", "ready", "degraded", "recovering", "failed"]
PHASES: tuple[Phase, ...] = get_args(Phase)


@dataclass(frozen=True)
class Policy:
    """How patient it is. Durations in seconds."""

    #: Good canaries in a row, and the time they must span, before a returning primary replaces the fallback.
    canaries: int = 3
    settle: float = 5.0
    #: Time between canaries while a primary proves itself, and of an engine that is up.
    prove_every: float = 1.0
    recheck_every: float = 30.0
    #: An engine that has not loaded, or not answered its canary, by then hangs.
    start_limit: float = 300.0
    prove_limit: float = 120.0
    #: A first engine that has not loaded by then gets the fallback started beside it.
    late_start: float = 120.0
    #: Wait before the second, third ... start; kept while it flaps, forgotten after `stable` seconds up.
    backoff: float = 1.0
    backoff_cap: float = 300.0
    #: The cap of an engine that nothing stands in for: requests can wait as long as that.
    alone_cap: float = 15.0
    stable: float = 300.0
    #: Starts in a row that may fail before requests are refused instead of waiting.
    give_up: int = 3
    #: Bad batches of an engine whose canary is right, within `stumble_window`, until the fallback takes over.
    stumbles: int = 3
    stumble_window: float = 60.0
    #: Whether the fallback is loaded once the primary is up, or only when it is needed.
    eager_fallback: bool = True


@dataclass(frozen=True)
class Idle:
    """Not wanted now."""


@dataclass(frozen=True)
class Starting:
    """Being made and loaded, until `limit` at most."""

    limit: float


@dataclass(frozen=True)
class Proving:
    """Loaded; answered `good` canaries since `since`. The next is due at `due`, or was asked with a limit."""

    good: int
    since: float
    due: float
    limit: float | None


@dataclass(frozen=True)
class Up:
    """Proven: may serve. Its canary is asked again at `due`, or was asked with a limit."""

    since: float
    due: float
    limit: float | None


@dataclass(frozen=True)
class Waiting:
    """Lost; started again at `until`."""

    until: float


Status = Idle | Starting | Proving | Up | Waiting


@dataclass(frozen=True)
class Slot:
    """One engine's place. `run` numbers its engines: events of an earlier run are ignored."""

    device: Device
    status: Status = Idle()
    run: int = 0
    #: Losses since it was last up for `stable` seconds: the exponent of the back-off.
    losses: int = 0
    #: Starts that failed since it was last up.
    bad_starts: int = 0
    reason: Reason | None = None
    detail: str = ""
    stumbled: tuple[float, ...] = ()

    @property
    def up(self) -> bool:
        """Whether it may serve."""
        return isinstance(self.status, Up)


@dataclass(frozen=True)
class State:
    """Everything there is to know. Made by `initial`."""

    policy: Policy
    primary: Slot
    fallback: Slot | None
    #: Why even the primary is not what was wished (`provider-absent`), or empty.
    shortfall: str = ""
    #: Whether anything ever answered.
    served: bool = False

    @property
    def serving(self) -> SlotName | None:
        """Whose engine gets the batches. The primary goes first."""
        if self.primary.up:
            return "primary"
        return "fallback" if self.fallback is not None and self.fallback.up else None

    def slot(self, name: SlotName) -> Slot | None:
        """The slot of that name, if there is one."""
        return self.primary if name == "primary" else self.fallback


@dataclass(frozen=True)
class View:
    """What the world is told: health, info, metrics and headers all read this."""

    phase: Phase
    serving: SlotName | None
    device: Device | None
    reason: Reason | None
    detail: str
    #: When the engine that is missing is tried again, on the clock of the events.
    retry_at: float | None


@dataclass(frozen=True)
class Began:
    """The service starts."""

    now: float


@dataclass(frozen=True)
class Tick:
    """Time went by."""

    now: float


@dataclass(frozen=True)
class _OfRun:
    """About one engine of one slot."""

    now: float
    slot: SlotName
    run: int


@dataclass(frozen=True)
class Loaded(_OfRun):
    """It is loaded, on the right provider; its canary is still to come."""


@dataclass(frozen=True)
class CanaryRight(_OfRun):
    """It answered its canary rightly."""


@dataclass(frozen=True)
class Fault(_OfRun):
    """It cannot be used any more, whatever it was doing."""

    reason: Reason
    detail: str


@dataclass(frozen=True)
class Stumble(_OfRun):
    """A batch went wrong, but its canary is right."""

    reason: Reason
    detail: str


Event = Began | Loaded | CanaryRight | Fault | Stumble | Tick


@dataclass(frozen=True)
class Start:
    """Make and load an engine; then say Loaded or Fault."""

    slot: SlotName
    run: int


@dataclass(frozen=True)
class Stop:
    """End an engine, hanging or not."""

    slot: SlotName
    run: int


@dataclass(frozen=True)
class Prove:
    """Ask the canary; then say CanaryRight or Fault."""

    slot: SlotName
    run: int


@dataclass(frozen=True)
class Announce:
    """Tell the world; `before` is what it was told last."""

    before: View
    view: View


Effect = Start | Stop | Prove | Announce


def initial(primary: Device, fallback: Device | None, policy: Policy, shortfall: str = "") -> State:
    """Before anything was started."""
    return State(policy, Slot(primary), None if fallback is None else Slot(fallback), shortfall)


def view(state: State) -> View:
    """What the world is told of a state."""
    serving, primary = state.serving, state.primary
    device = (
        None if serving is None else (primary if serving == "primary" else state.fallback or primary).device
    )
    if serving == "primary":
        if state.shortfall:
            return View("degraded", serving, device, "provider-absent", state.shortfall, None)
        return View("ready", serving, device, None, "", None)
    waits = primary.status.until if isinstance(primary.status, Waiting) else None
    if serving == "fallback":
        phase: Phase = "degraded" if waits is not None else "recovering"
        return View(phase, serving, device, primary.reason, primary.detail, waits)
    return View(_dark(state), None, None, primary.reason, primary.detail, waits)


def _dark(state: State) -> Phase:
    """The phase while nothing answers. What has served may fail to start once or twice; requests wait."""
    slots = [slot for slot in (state.primary, state.fallback) if slot is not None]
    bad_starts = state.policy.give_up if state.served else 1
    if all(slot.bad_starts >= bad_starts for slot in slots):
        return "failed"
    return "recovering" if state.served else "loading"
