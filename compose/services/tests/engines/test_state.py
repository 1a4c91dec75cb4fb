"""The state machine of a model's engines, against every order of events that engines can produce."""

from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpuctl_serving.engines.deadlines import next_deadline
from gpuctl_serving.engines.state import (
    PHASES,
    Announce,
    Began,
    CanaryRight,
    Event,
    Fault,
    Loaded,
    Phase,
    Policy,
    Prove,
    Reason,
    SlotName,
    Start,
    State,
    Stop,
    Stumble,
    Tick,
    View,
    Waiting,
    initial,
    view,
)
from gpuctl_serving.engines.transitions import backoff, reduce

POLICY = Policy(
    canaries=3,
    settle=5,
    prove_every=1,
    recheck_every=30,
    start_limit=60,
    prove_limit=20,
    backoff=1,
    backoff_cap=64,
    stable=120,
)
LAZY = replace(POLICY, eager_fallback=False)
#: Does not wait for a first load to be given up; has a short cap for what is alone.
EARLY = replace(POLICY, late_start=20, alone_cap=8)


@dataclass
class World:
    """Engines that start, answer and break as they are told; keeps account of every effect."""

    state: State
    now: float = 0.0
    #: (slot, run) of engines that exist: started and not stopped.
    alive: set[tuple[SlotName, int]] = field(default_factory=set)
    loading: set[tuple[SlotName, int]] = field(default_factory=set)
    asked: set[tuple[SlotName, int]] = field(default_factory=set)
    #: Canaries each engine answered rightly.
    right: dict[tuple[SlotName, int], int] = field(default_factory=dict)
    told: View | None = None
    phases: list[Phase] = field(default_factory=list)
    starts: list[tuple[float, SlotName]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.told = view(self.state)
        self.phases.append(self.told.phase)

    def hear(self, event: Event) -> None:
        self.state, effects = reduce(self.state, event)
        for effect in effects:
            match effect:
                case Start(slot, run):
                    assert not [name for name, _ in self.alive if name == slot], f"two engines in {slot}"
                    self.alive.add((slot, run))
                    self.loading.add((slot, run))
                    self.starts.append((self.now, slot))
                case Stop(slot, run):
                    assert (slot, run) in self.alive, "stopped what does not exist"
                    for group in (self.alive, self.loading, self.asked):
                        group.discard((slot, run))
                case Prove(slot, run):
                    assert (slot, run) in self.alive - self.loading, "asked a canary of nobody"
                    assert (slot, run) not in self.asked, "asked the same canary twice"
                    self.asked.add((slot, run))
                case Announce(before, after):
                    assert before == self.told, "an announcement was lost"
                    self.told = after
                    if after.phase != self.phases[-1]:
                        self.phases.append(after.phase)
        self.check()

    def check(self) -> None:
        assert self.told == view(self.state), "the world was told something else"
        serving = self.state.serving
        if serving is not None:
            slot = self.state.slot(serving)
            assert slot is not None
            assert (serving, slot.run) in self.alive - self.loading, "serves with an engine that is not there"
            assert self.right.get((serving, slot.run), 0) >= 1, "promoted without a canary"
        if view(self.state).phase == "failed":
            assert serving is None
        at = next_deadline(self.state)
        assert at is None or at > self.now, "a deadline passed unnoticed"
        for name in ("primary", "fallback"):
            slot = self.state.slot(name)
            if slot is not None and isinstance(slot.status, Waiting):
                assert slot.status.until - self.now <= self.state.policy.backoff_cap

    def pass_time(self, seconds: float) -> None:
        """Lets time go by, never past a deadline."""
        end = self.now + seconds
        while (at := next_deadline(self.state)) is not None and at <= end:
            self.now = at
            self.hear(Tick(at))
        self.now = end

    def serve_well(self) -> None:
        """Every engine loads and answers what it was asked."""
        for slot, run in sorted(self.loading):
            self.loaded(slot, run)
        for slot, run in sorted(self.asked):
            self.canary(slot, run)

    def loaded(self, slot: SlotName, run: int) -> None:
        self.loading.discard((slot, run))
        self.hear(Loaded(self.now, slot, run))

    def canary(self, slot: SlotName, run: int) -> None:
        self.asked.discard((slot, run))
        self.right[slot, run] = self.right.get((slot, run), 0) + 1
        self.hear(CanaryRight(self.now, slot, run))

    def break_(self, slot: SlotName, reason: Reason = "worker-died") -> None:
        held = self.state.slot(slot)
        assert held is not None
        self.hear(Fault(self.now, slot, held.run, reason, "a test broke it"))

    def recover(self, seconds: float = 1000) -> None:
        for _ in range(int(seconds)):
            self.serve_well()
            self.pass_time(1)


def world(fallback: bool = True, policy: Policy = POLICY, primary: str = "cuda") -> World:
    made = World(initial("cuda" if primary == "cuda" else "cpu", "cpu" if fallback else None, policy))
    made.hear(Began(0))
    return made


moves = st.lists(
    st.tuples(
        st.sampled_from(["load", "canary", "fault", "stumble", "late", "wait", "unheard"]),
        st.integers(0, 7),
        st.floats(0.01, 150),
    ),
    max_size=60,
)
REASONS_SEEN: tuple[Reason, ...] = ("worker-died", "worker-hung", "non-finite", "device-error")


def play(made: World, script: list[tuple[str, int, float]]) -> None:
    for move, pick, seconds in script:
        match move:
            case "load" if made.loading:
                made.loaded(*sorted(made.loading)[pick % len(made.loading)])
            case "canary" if made.asked:
                made.canary(*sorted(made.asked)[pick % len(made.asked)])
            case "fault" if made.alive:
                slot, run = sorted(made.alive)[pick % len(made.alive)]
                made.hear(Fault(made.now, slot, run, REASONS_SEEN[pick % 4], "x"))
            case "stumble" if made.alive - made.loading:
                slot, run = sorted(made.alive - made.loading)[pick % len(made.alive - made.loading)]
                made.hear(Stumble(made.now, slot, run, "out-of-memory", "x"))
            case "late":  # News of an engine that was given up long ago changes nothing.
                before = made.state
                made.hear(Fault(made.now, "primary", made.state.primary.run - 1, "worker-died", "late"))
                made.hear(CanaryRight(made.now, "primary", made.state.primary.run - 1))
                assert made.state == before
            case "wait":
                made.pass_time(seconds)
            case "unheard":
                made.hear(Tick(made.now))
            case _:
                pass


@given(st.booleans(), st.sampled_from([POLICY, LAZY, EARLY]), moves)
@settings(max_examples=300, deadline=None)
def test_whatever_happens_no_rule_is_broken_and_it_converges_once_the_faults_stop(
    fallback: bool, policy: Policy, script: list[tuple[str, int, float]]
) -> None:
    made = world(fallback, policy)
    play(made, script)
    made.recover(policy.backoff_cap + policy.start_limit + policy.prove_limit + 4 * policy.settle + 10)
    assert view(made.state).phase == "ready"
    assert made.state.serving == "primary"


def test_every_phase_is_reached() -> None:
    seen: set[Phase] = set()
    for fallback in (True, False):
        made = world(fallback)
        made.recover(10)
        made.break_("primary")
        made.pass_time(1)
        if fallback:
            made.break_("fallback")
        for _ in range(POLICY.give_up):
            for slot, run in sorted(made.loading):
                made.hear(Fault(made.now, slot, run, "load-failure", "x"))
            made.pass_time(POLICY.backoff_cap)
        made.recover(100)
        seen.update(made.phases)
    assert seen == set(PHASES)


def test_the_whole_way_down_and_back() -> None:
    made = world()
    made.recover(2)
    assert made.told == View("ready", "primary", "cuda", None, "", None)
    made.break_("primary", "device-error")
    assert made.told is not None
    assert (made.told.phase, made.told.device, made.told.reason) == ("degraded", "cpu", "device-error")
    made.recover(60)
    assert made.phases == ["loading", "ready", "degraded", "recovering", "ready"]


def test_a_cpu_primary_restarts_at_once_and_is_recovering_meanwhile() -> None:
    made = world(fallback=False, primary="cpu")
    made.recover(2)
    made.break_("primary")
    assert made.loading == {("primary", 2)}
    assert view(made.state).phase == "recovering"
    made.recover(2)
    assert made.phases == ["loading", "ready", "recovering", "ready"]


def test_a_restart_that_fails_once_or_twice_is_still_recovering_and_requests_go_on_waiting() -> None:
    made = world(fallback=False, primary="cpu")
    made.recover(2)
    made.break_("primary")
    for _ in range(POLICY.give_up):
        assert view(made.state).phase == "recovering"
        made.break_("primary")
        made.pass_time(8)
    assert view(made.state).phase == "failed"
    made.recover(2)
    assert made.phases == ["loading", "ready", "recovering", "failed", "ready"]


def test_a_returning_primary_needs_several_canaries_over_some_time_while_the_fallback_answers() -> None:
    made = world()
    made.recover(2)
    made.break_("primary")
    made.pass_time(1.5)
    run = made.state.primary.run
    made.loaded("primary", run)
    began = made.now
    while made.state.serving != "primary":
        made.serve_well()
        made.pass_time(0.25)
    assert made.right["primary", run] >= POLICY.canaries
    assert made.now - began >= POLICY.settle


def test_a_primary_that_is_nearly_convinced_takes_over_at_once_when_the_fallback_dies() -> None:
    made = world()
    made.recover(2)
    made.break_("primary")
    made.pass_time(1.5)
    made.serve_well()
    made.serve_well()
    assert view(made.state).device == "cpu"
    made.break_("fallback")
    assert view(made.state).device == "cuda"


def test_a_flapping_primary_is_tried_ever_more_rarely_up_to_the_cap_and_forgiven_after_a_stable_time() -> (
    None
):
    made = world()
    made.recover(2)
    for _ in range(12):
        made.break_("primary")
        while made.state.serving != "primary":
            made.serve_well()
            made.pass_time(0.5)
        made.pass_time(0)
    assert backoff(POLICY, made.state.primary.losses) == POLICY.backoff_cap
    made.recover(POLICY.stable + 1)
    made.break_("primary")
    assert made.state.primary.losses == 1
    assert view(made.state).retry_at == made.now + POLICY.backoff


@given(st.integers(0, 10_000))
def test_the_back_off_is_bounded_and_never_shrinks(losses: int) -> None:
    assert POLICY.backoff <= backoff(POLICY, losses) <= backoff(POLICY, losses + 1) <= POLICY.backoff_cap


def test_a_start_that_hangs_is_given_up_and_the_fallback_answers() -> None:
    made = world()
    made.pass_time(POLICY.start_limit)
    assert made.state.primary.reason == "worker-hung"
    made.loaded("fallback", 1)
    made.canary("fallback", 1)
    assert made.told is not None
    assert (made.told.phase, made.told.device, made.told.reason) == ("degraded", "cpu", "worker-hung")


def test_a_first_load_that_takes_long_has_the_fallback_answer_meanwhile_and_is_not_given_up() -> None:
    made = world(policy=EARLY)
    made.pass_time(19.9)
    assert made.alive == {("primary", 1)}
    made.pass_time(0.1)
    assert made.alive == {("primary", 1), ("fallback", 1)}
    made.loaded("fallback", 1)
    made.canary("fallback", 1)
    told = view(made.state)
    assert (told.phase, told.device, told.reason) == ("recovering", "cpu", "worker-hung")
    assert told.detail == "it has not loaded for 20 s"
    made.loaded("primary", 1)
    made.recover(10)
    assert (view(made.state).phase, made.state.primary.run) == ("ready", 1)


def test_an_engine_that_nothing_stands_in_for_is_never_kept_waiting_for_long() -> None:
    made = world(fallback=False, policy=EARLY)
    made.recover(2)
    for _ in range(12):
        made.break_("primary")
        waits = made.state.primary.status
        assert not isinstance(waits, Waiting) or waits.until - made.now <= EARLY.alone_cap
        made.recover(EARLY.alone_cap + 1)
        assert made.state.serving == "primary"


def test_a_canary_that_never_comes_back_demotes() -> None:
    made = world()
    made.recover(2)
    made.pass_time(POLICY.recheck_every + POLICY.prove_limit + 1)
    assert made.state.primary.reason == "worker-hung"


def test_repeated_out_of_memory_demotes_only_when_another_engine_can_answer() -> None:
    for fallback in (True, False):
        made = world(fallback)
        made.recover(2)
        for _ in range(POLICY.stumbles):
            assert view(made.state).phase == "ready"
            made.hear(Stumble(made.now, "primary", 1, "out-of-memory", "x"))
        assert made.told is not None
        assert (made.told.phase, made.told.reason) == (
            ("degraded", "out-of-memory") if fallback else ("ready", None)
        )


def test_stumbles_far_apart_are_forgotten() -> None:
    made = world()
    made.recover(2)
    for _ in range(10):
        made.hear(Stumble(made.now, "primary", 1, "non-finite", "x"))
        made.recover(POLICY.stumble_window)
    assert view(made.state).phase == "ready"


@pytest.mark.parametrize("policy", [POLICY, LAZY])
def test_the_fallback_is_loaded_beforehand_or_only_when_needed_and_let_go_again(policy: Policy) -> None:
    made = world(policy=policy)
    made.recover(5)
    assert (("fallback", 1) in made.alive) == policy.eager_fallback
    made.break_("primary")
    assert ("fallback", 1) in made.alive
    made.recover(policy.stable + 60)
    assert (("fallback", 1) in made.alive) == policy.eager_fallback


def test_a_first_load_that_fails_with_nothing_else_to_try_has_failed() -> None:
    made = world(fallback=False)
    made.hear(Fault(0, "primary", 1, "load-failure", "no such file"))
    assert made.told is not None
    assert (made.told.phase, made.told.reason, made.told.detail) == ("failed", "load-failure", "no such file")
    made.recover(10)
    assert made.phases == ["loading", "failed", "ready"]


def test_with_a_fallback_it_has_failed_only_when_that_cannot_load_either() -> None:
    made = world()
    made.hear(Fault(0, "primary", 1, "load-failure", "x"))
    assert view(made.state).phase == "loading"
    made.hear(Fault(0, "fallback", 1, "load-failure", "x"))
    assert view(made.state).phase == "failed"


def test_a_primary_short_of_what_was_wished_is_degraded_for_good_and_says_why() -> None:
    made = World(initial("cpu", None, POLICY, "cuda was asked for and there is none"))
    made.hear(Began(0))
    made.recover(5)
    assert made.told is not None
    assert (made.told.phase, made.told.device, made.told.reason) == ("degraded", "cpu", "provider-absent")
