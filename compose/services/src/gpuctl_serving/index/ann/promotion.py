"""The thread that gives every namespace the index type of its size, while searches and writes go on."""

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from typing import Any, Literal

from gpuctl_serving.index.ann.heap import give_back
from gpuctl_serving.index.ann.near import VectorIndex
from gpuctl_serving.index.ann.plan import (
    FLAT,
    Plan,
    Policy,
    gpu_problems,
    rebuild,
    shortage,
    wanted,
)
from gpuctl_serving.index.ann.training import Abandoned, Pace, build, build_flat
from gpuctl_serving.index.catalog import Catalog
from gpuctl_serving.kit.logs import Log

log = Log(__name__)

Outcome = Literal["done", "failed", "abandoned"]

#: Between two looks at the sizes, seconds.
_LOOK = 0.5
#: After a failure the same is tried again, later each time.
_PAUSE = 30.0
_LONGEST_PAUSE = 900.0
#: Changes that may be left for the moment of the swap; writes wait for those.
_LAST_CHANGES = 256
_ROUNDS = 50
#: The scheduler prefers every thread that serves to this one: added to what the service was started with.
_NICE = 10
_NICEST = 19


@dataclass(frozen=True)
class Work:
    """What is being built, as statistics show it."""

    ns: int
    to: Plan
    phase: str
    done: int
    of: int
    began: float


@dataclass(frozen=True)
class Promotion:
    """One that is over."""

    ns: int
    before: Plan
    after: Plan
    vectors: int
    seconds: float


class Promoter(threading.Thread):
    """One namespace at a time. A stop, a failure or a reload leaves the old index in service."""

    def __init__(self, catalog: Callable[[], Catalog | None], policy: Policy) -> None:
        super().__init__(name="index-promoter", daemon=True)
        self._catalog, self.policy = catalog, policy
        self._stop_asked = threading.Event()
        #: Namespaces to be made again as they are, by request.
        self._asked: set[int] = set()
        self._wait_until: dict[int, tuple[float, float]] = {}
        #: What each namespace's last try failed with.
        self._failures: dict[int, str] = {}
        self.work: Work | None = None
        self.last: Promotion | None = None
        self.counts: dict[Outcome, int] = {"done": 0, "failed": 0, "abandoned": 0}
        #: Told how each ended.
        self.heard: Callable[[Outcome], None] = lambda outcome: None

    def stop(self) -> None:
        """Ends the thread within a slice of its work; what it was building is dropped."""
        self._stop_asked.set()
        if self.is_alive():
            self.join()

    def run(self) -> None:
        """Looks after the sizes until stopped."""
        _stand_back()
        while not self._stop_asked.wait(_LOOK):
            done = self.counts["done"]
            self.look()
            if self.counts["done"] > done:
                give_back()

    def ask(self, namespaces: Collection[int]) -> None:
        """Makes these again from the stored vectors, of the type they have or should have, soon."""
        self._asked = self._asked | set(namespaces)

    @property
    def asked(self) -> frozenset[int]:
        """Those that were asked for and not tried since."""
        return frozenset(self._asked)

    def look(self) -> None:
        """One look at every namespace; builds what is due."""
        catalog = self._catalog()
        if catalog is None:
            return
        for ns, index in catalog.indexes.items():
            plan = rebuild(self.policy, index.plan, len(index), catalog.dimension)
            if plan is None:
                self._failures.pop(ns, None)
                plan = index.plan if ns in self._asked else None
            # Who asks does not wait for the next try after a failure.
            due = ns in self._asked or self._wait_until.get(ns, (0.0, 0.0))[0] <= time.monotonic()
            if plan is not None and due:
                self._try(catalog, ns, index, plan)
            if self._stop_asked.is_set():
                return

    @property
    def failure(self) -> str | None:
        """What the last try that failed and was not made good since failed with."""
        return next(reversed(list(self._failures.values())), None)

    def reason(self, catalog: Catalog, ns: int, index: VectorIndex) -> str | None:
        """Why a namespace's index is not of the type that is wished; None when it is, or is about to be."""
        count = len(index)
        wish = wanted(self.policy, count, catalog.dimension)
        if wish.kind == index.plan.kind:
            if self.policy.wish == "IVFPQ" != wish.kind:
                return f"no code size that a GPU takes divides {catalog.dimension} dimensions"
            return None
        if problems := gpu_problems(wish, catalog.dimension):
            return f"{wish.kind} of this shape could never move to a GPU: {'; '.join(problems)}"
        if few := shortage(wish, count):
            return few
        return self._failures.get(ns) or f"{wish.kind} is due and will be built next"

    def _try(self, catalog: Catalog, ns: int, index: VectorIndex, plan: Plan) -> None:
        began = time.monotonic()
        self.work = Work(ns, plan, "starting", 0, 0, began)
        try:
            catalog.begin_rebuild(ns)
            try:
                self._build(catalog, ns, plan, len(index))
            finally:
                catalog.end_rebuild(ns)
            before, count = index.plan, len(index)
            self._succeeded(Promotion(ns, before, plan, count, time.monotonic() - began))
        except Abandoned:
            self._count("abandoned")
            log.info("promotion-abandoned", namespace=ns, to=plan.kind)
        except Exception as failure:
            # Whatever it was, the old index serves on, and the other namespaces have their turn.
            self._failed(ns, plan, failure)
        finally:
            self._asked = self._asked - {ns}
            self.work = None

    def _build(self, catalog: Catalog, ns: int, plan: Plan, count: int) -> None:
        pace = Pace(lambda: self._stop_asked.is_set() or self._catalog() is not catalog, self._tell)
        made: VectorIndex
        if plan == FLAT:
            made = build_flat(catalog.truth, ns, catalog.dimension, pace)
        else:
            made = build(catalog.truth, ns, plan, count, catalog.dimension, pace)
        for _ in range(_ROUNDS):
            self._tell("catching up", 0, 0)
            pace.pause()
            if catalog.catch_up(ns, made, pace.pause) <= _LAST_CHANGES:
                break
        catalog.swap(ns, made)

    def _count(self, outcome: Outcome) -> None:
        self.counts[outcome] += 1
        self.heard(outcome)

    def _tell(self, phase: str, done: int, of: int) -> None:
        if self.work is not None:
            self.work = replace(self.work, phase=phase, done=done, of=of)

    def _succeeded(self, promotion: Promotion) -> None:
        self.last = promotion
        self._wait_until.pop(promotion.ns, None)
        self._failures.pop(promotion.ns, None)
        self._count("done")
        log.info(
            "index-promoted",
            namespace=promotion.ns,
            before=promotion.before.kind,
            after=promotion.after.kind,
            nlist=promotion.after.nlist,
            vectors=promotion.vectors,
            seconds=round(promotion.seconds, 3),
        )

    def _failed(self, ns: int, plan: Plan, failure: Exception) -> None:
        _, pause = self._wait_until.get(ns, (0.0, _PAUSE / 2))
        pause = min(_LONGEST_PAUSE, pause * 2)
        self._wait_until[ns] = (time.monotonic() + pause, pause)
        self._count("failed")
        # A MemoryError says nothing.
        why = str(failure) or type(failure).__name__
        self._failures.pop(ns, None)
        self._failures[ns] = (
            f"building {plan.kind} failed: {why}; the old index serves, next try in {pause:.0f} s"
        )
        log.warning("promotion-failed", namespace=ns, to=plan.kind, reason=why, again_in=pause)

    def facts(self) -> dict[str, Any]:
        """What statistics say about it."""
        work, last = self.work, self.last
        return {
            "running": None
            if work is None
            else {
                "namespace": work.ns,
                "to": work.to.kind,
                "nlist": work.to.nlist,
                "phase": work.phase,
                "done": work.done,
                "of": work.of,
                "seconds": round(time.monotonic() - work.began, 3),
            },
            "last": None
            if last is None
            else {
                "namespace": last.ns,
                "from": last.before.kind,
                "to": last.after.kind,
                "vectors": last.vectors,
                "seconds": round(last.seconds, 3),
            },
            "failure": self.failure,
            **{str(outcome): count for outcome, count in self.counts.items()},
        }


def _stand_back() -> None:
    if sys.platform == "linux":
        thread = threading.get_native_id()
        # Absolute, it would ask for more than its share of a service that was started nicer: that is refused.
        nice = min(_NICEST, os.getpriority(os.PRIO_PROCESS, thread) + _NICE)
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, thread, nice)
