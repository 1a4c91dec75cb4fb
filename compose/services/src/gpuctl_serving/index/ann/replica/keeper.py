"""The thread that keeps the replica: starts its process, clones what is large, and again what has changed."""

import contextlib
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gpuctl_serving.index.ann.near import Effort, Items
from gpuctl_serving.index.ann.plan import GPU_MAX_K, GPU_MAX_NPROBE
from gpuctl_serving.index.ann.replica.copies import clear, copy_file
from gpuctl_serving.index.ann.replica.copies_told import Copies
from gpuctl_serving.index.ann.replica.delta import Delta
from gpuctl_serving.index.ann.replica.link import ReplicaFailed, ReplicaLink
from gpuctl_serving.index.ann.replica.policy import ReplicaPolicy
from gpuctl_serving.index.ann.replica.records import Drop, Load
from gpuctl_serving.index.ann.replica.refusals import Refusal, Refusals
from gpuctl_serving.index.ann.replica.told import Reason, Told
from gpuctl_serving.index.catalog import Catalog
from gpuctl_serving.index.vectors import Vectors
from gpuctl_serving.kit.logs import Log

log = Log(__name__)

_LOOK = 0.2
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 300.0
#: After a copy that could not be written or cloned, the next one of that namespace.
_REFUSED_PAUSE = 30.0
#: Searches of one copy that fail one after the other before it is given up.
_FAILED_SEARCHES = 3
#: Faults after which the process is gone; each is counted once, however many searches it took along.
_ENDS = ("replica-died", "replica-hung")
#: Faults that are not the copy's: its process is gone, or a search could not wait for its turn.
_NOT_OF_THE_COPY = (*_ENDS, "replica-busy")


class ReplicaKeeper(threading.Thread):
    """Nothing waits for it: while there is no clone, the CPU answers."""

    def __init__(
        self,
        catalog: Callable[[], Catalog | None],
        directory: Path,
        policy: ReplicaPolicy,
        start: Callable[[int], ReplicaLink] = ReplicaLink,
    ) -> None:
        super().__init__(name="index-replica", daemon=True)
        self._catalog, self._directory, self.policy = catalog, directory, policy
        self._start_link = start
        self._stop_asked = threading.Event()
        self._link: ReplicaLink | None = None
        self._again, self._pause = 0.0, _FIRST_PAUSE
        self._refusals = Refusals()
        #: The namespace whose copy is being made; whether the process is loading it.
        self._making: int | None = None
        self._cloning = False
        self.clones = 0
        #: Why the process ended last, until a copy is there again.
        self._trouble: Refusal | None = None
        self._told = Told("starting").after(None)
        self._telling, self._counting = threading.Lock(), threading.Lock()
        #: The process whose end was counted.
        self._counted: ReplicaLink | None = None
        #: Told why the CPU had to answer instead.
        self.heard: Callable[[str], None] = lambda reason: None

    def stop(self) -> None:
        """Ends the thread and the process."""
        self._stop_asked.set()
        link = self._link
        if link is not None:
            link.kill()
        if self.is_alive():
            self.join()

    def run(self) -> None:
        """Looks after process and clones until stopped."""
        with contextlib.suppress(OSError):
            # Where nothing can be removed, nothing is lost but room.
            clear(self._directory)
        patience = _LOOK
        while not self._stop_asked.wait(patience):
            try:
                self.look()
                self.told()
                patience = _LOOK
            except Exception as failure:
                # Whatever it was, the CPU answers; without this thread no GPU ever would again.
                self._count("device-error")
                self._failed("device-error", str(failure) or type(failure).__name__)
                patience = self._pause
        self._forget_link()

    @property
    def pid(self) -> int | None:
        """Of the replica's process, while there is one."""
        link = self._link
        return link.pid if link is not None and link.ended is None else None

    @property
    def device(self) -> str:
        """The device of the replica; empty while there is none."""
        link = self._link
        return link.device if link is not None else ""

    @property
    def failure(self) -> str | None:
        """What went wrong last and has not gone well since, for people."""
        if self._trouble is not None:
            return self._trouble.text
        catalog = self._catalog()
        refused = self._refusals.first(catalog.namespaces) if catalog is not None else None
        return refused.text if refused is not None else None

    def told(self) -> Told:
        """What the world is told now; cheap, for any thread."""
        with self._telling:
            self._told = told = self._seen().after(self._told)
        return told

    def _seen(self) -> Told:
        link, trouble, catalog = self._link, self._trouble, self._catalog()
        ended = link.ended if link is not None else None
        if ended is not None:
            # Its keeper has not looked yet; what is told is counted.
            self._count(ended.reason, link, ended=True)
            return Told("failed", None, ended.reason, str(ended))
        if link is None and trouble is not None:
            return Told("failed", None, trouble.reason, trouble.text, trouble.again)
        if link is None and catalog is None:
            return Told("waiting", None, None, "the index is empty")
        device = link.device if link is not None else ""
        if not device:
            if trouble is not None:
                return Told("starting", None, trouble.reason, trouble.text)
            return Told("starting", None, None, "the GPU's process is starting")
        sizes = {ns: len(index) for ns, index in catalog.indexes.items()} if catalog is not None else {}
        deltas = {ns: catalog.delta(ns) for ns in sizes} if catalog is not None else {}
        return Copies(
            device=device,
            sizes=sizes,
            smallest=self.policy.smallest,
            active={ns for ns, delta in deltas.items() if delta is not None and delta.active},
            refusals=self._refusals,
            making=self._making,
            loading=self._cloning,
            trouble=trouble,
        ).told()

    def look(self) -> None:
        """One look at the process and at every namespace."""
        catalog = self._catalog()
        if catalog is None or not self._running():
            return
        catalog.replica = self
        for ns, index in catalog.indexes.items():
            if self._stop_asked.is_set() or self._link is None:
                return
            if (delta := catalog.delta(ns)) is not None and not delta.active:
                # Given up by its searches: the card gets its room back.
                catalog.end_delta(ns)
                self._tell(Drop(ns))
            if len(index) < self.policy.smallest:
                self._refusals.forget(ns)
            if len(index) >= self.policy.smallest and self._due(catalog, ns):
                self._clone(catalog, ns)
            elif len(index) < self.policy.smallest // 2 and catalog.delta(ns) is not None:
                catalog.end_delta(ns)
                self._tell(Drop(ns))

    def candidates(self, delta: Delta, ns: int, queries: Vectors, k: int, effort: Effort) -> Items | None:
        """Items of the clone for each query; None when the CPU has to answer."""
        link = self._link
        if link is None or not link.device or self._cloning or not delta.active:
            return None
        fetch = min(delta.size, delta.index.candidates(k), GPU_MAX_K)
        nprobe = delta.index.probes(effort)
        # With nothing fetched beyond k nobody could tell that what was not fetched is no better.
        if nprobe > GPU_MAX_NPROBE or fetch < 1 or fetch <= k < delta.size:
            return None
        try:
            found = link.search((ns, delta.clone), queries, fetch, nprobe, self.policy.search_seconds)
        except ReplicaFailed as failure:
            self._count(failure.reason, link)
            log.warning("replica-failed", reason=failure.reason, detail=str(failure))
            if failure.reason not in _NOT_OF_THE_COPY:
                self._search_failed(delta, ns, failure)
            return None
        delta.failures = 0
        return delta.named(found)

    def _search_failed(self, delta: Delta, ns: int, failure: ReplicaFailed) -> None:
        """Gives a copy up whose searches only fail: until the next one, the CPU is asked at once."""
        catalog = self._catalog()
        with self._counting:
            delta.failures += 1
            if delta.failures < _FAILED_SEARCHES or not delta.active:
                return
            if catalog is None or catalog.delta(ns) is not delta:
                # The next copy is being made already.
                return
            what = f"{_FAILED_SEARCHES} searches of the copy failed in a row"
            self._refuse(ns, failure.reason, str(failure), what)
            # Its delta is ended by the keeper's thread: a search must not wait for a write.
            delta.active = False

    def _running(self) -> bool:
        """Whether there is a process with its device open; starts one when it is time to."""
        link = self._link
        over = link.over if link is not None else None
        if link is not None and over is None:
            link.check()
            return bool(link.device)
        if over is not None:
            self._count(over.reason, link, ended=True)
            self._failed(over.reason, str(over))
            self._forget_link()
        if time.monotonic() >= self._again:
            self._link = self._start_link(self.policy.temp_mib)
            self._link.start()
        return False

    def _due(self, catalog: Catalog, ns: int) -> bool:
        if self._refusals.waits(ns):
            return False
        delta = catalog.delta(ns)
        if delta is None:
            return True
        if delta.index is not catalog.indexes.get(ns) or delta.changes >= self.policy.writes:
            return True
        return delta.changes > 0 and time.monotonic() - delta.made >= self.policy.seconds

    def _clone(self, catalog: Catalog, ns: int) -> None:
        self._making = ns
        try:
            self._clone_now(catalog, ns)
        finally:
            self._making = None

    def _clone_now(self, catalog: Catalog, ns: int) -> None:
        began = time.monotonic()
        try:
            with copy_file(self._directory) as file:
                # From here on until it is loaded, the CPU answers.
                delta = catalog.copy_for_replica(ns, file)
                done = self._load(ns, delta, file)
        except (OSError, RuntimeError, MemoryError) as failure:
            # The copy before it, where there is one, and its delta go on.
            self._count("copy-failure")
            self._refuse(ns, "copy-failure", str(failure) or type(failure).__name__)
            return
        if not done:
            catalog.end_delta(ns)
            return
        delta.active = True
        self.clones += 1
        self._pause, self._trouble = _FIRST_PAUSE, None
        self._refusals.forget(ns)
        log.info(
            "replica-cloned",
            namespace=ns,
            vectors=len(delta.index),
            type=delta.index.plan.kind,
            seconds=round(time.monotonic() - began, 3),
        )

    def _load(self, ns: int, delta: Delta, file: Path) -> bool:
        self._cloning = True
        try:
            return self._tell(Load(ns, delta.clone, str(file), delta.index.plan.float16_tables), ns)
        finally:
            self._cloning = False

    def _tell(self, record: Load | Drop, ns: int | None = None) -> bool:
        link = self._link
        try:
            if link is not None:
                link.load(record)
            return link is not None
        except ReplicaFailed as failure:
            self._count(failure.reason, link)
            if ns is not None:
                self._refuse(ns, failure.reason, str(failure))
            return False

    def _refuse(self, ns: int, reason: Reason, detail: str, what: str = "the clone failed") -> None:
        text = f"{what} ({reason}): {detail}; next try in {_REFUSED_PAUSE:.0f} s"
        self._refusals.add(ns, Refusal(reason, text, time.monotonic() + _REFUSED_PAUSE))
        log.warning("clone-failed", namespace=ns, reason=reason, detail=detail)

    def _count(self, reason: Reason, link: ReplicaLink | None = None, *, ended: bool = False) -> None:
        """Tells the metrics. The end of a process is told by whoever sees it first, and once."""
        if link is not None and (ended or reason in _ENDS):
            with self._counting:
                if self._counted is link:
                    return
                self._counted = link
        self.heard(reason)

    def _failed(self, reason: Reason, message: str) -> None:
        self._again = time.monotonic() + self._pause
        self._trouble = Refusal(reason, message, self._again)
        log.warning("replica-ended", reason=message, again_in=self._pause)
        self._pause = min(_LONGEST_PAUSE, self._pause * 2)

    def _forget_link(self) -> None:
        link, self._link = self._link, None
        if link is not None:
            link.close()
        catalog = self._catalog()
        if catalog is not None:
            for ns in catalog.indexes:
                catalog.end_delta(ns)

    def facts(self, told: Told | None = None) -> dict[str, Any]:
        """What statistics say about it; `told` is what the same answer says elsewhere."""
        catalog = self._catalog()
        deltas = {ns: catalog.delta(ns) for ns in catalog.indexes} if catalog else {}
        now = time.monotonic()
        return {
            **(told or self.told()).body(),
            "pid": self.pid,
            "clones": self.clones,
            "failure": self.failure,
            "lag": sum(delta.changes for delta in deltas.values() if delta),
            "namespaces": {
                str(ns): {
                    "type": delta.index.plan.kind,
                    "lag": delta.changes,
                    "ageSeconds": round(now - delta.made, 3),
                }
                for ns, delta in deltas.items()
                if delta and delta.active
            },
        }
