"""Long work on an index beside its requests: one job at a time, with progress; snapshots by the clock."""

import queue
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Literal

from gpuctl_serving.index import upkeep
from gpuctl_serving.index.core import Core
from gpuctl_serving.index.durable import manifest as manifests
from gpuctl_serving.index.durable.manifest import Manifest
from gpuctl_serving.index.durable.snapshot import Source, shapes, take
from gpuctl_serving.kit.errors import ServiceError, overloaded
from gpuctl_serving.kit.logs import Log

log = Log(__name__)

#: Jobs that are remembered, and jobs that may wait.
_REMEMBERED = 32
_WAITING = 8
#: Between two looks at what is due, seconds.
_LOOK = 0.5
#: After a snapshot that failed, the clock's next attempt.
_PAUSE = 60.0
_SYNC_SECONDS = 60.0

State = Literal["waiting", "running", "done", "failed"]
Progress = Callable[[str, int, int], None]
Run = Callable[[Progress], dict[str, Any]]


@dataclass
class Job:
    """One piece of work, as its client sees it."""

    id: str
    kind: str
    run: Run
    state: State = "waiting"
    phase: str = ""
    done: int = 0
    of: int = 0
    result: dict[str, Any] | None = None
    error: str | None = None
    seconds: float = 0.0
    over: Future[None] = field(default_factory=Future)

    def body(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "job": self.id,
            "kind": self.kind,
            "state": self.state,
            "phase": self.phase,
            "done": self.done,
            "of": self.of,
            "seconds": round(self.seconds, 3),
            "result": self.result,
            "error": self.error,
        }


class Maintenance(threading.Thread):
    """Runs jobs in turn. Every method but `run` may be called from any thread."""

    def __init__(self, core: Core) -> None:
        super().__init__(name="index-maintenance", daemon=True)
        self._core = core
        self._queue: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._jobs: OrderedDict[str, Job] = OrderedDict()
        self._number = 0
        self._stopping = False
        #: When this process knew of the newest snapshot, or that there is none.
        self._known, self._not_before = time.monotonic(), 0.0
        #: Manifest of the newest snapshot.
        self.newest: Manifest | None = newest_manifest(core)
        self.failures = 0

    # -- asked from other threads

    def start_job(self, kind: str, run: Run) -> Job:
        """Puts a job behind those that wait. 429 when too many do."""
        if self._queue.qsize() >= _WAITING:
            raise overloaded(f"{_WAITING} jobs are waiting already. Send this one later.", 5)
        self._number += 1
        job = Job(f"j{self._number}", kind, run)
        self._jobs[job.id] = job
        while len(self._jobs) > _REMEMBERED:
            self._jobs.popitem(last=False)
        self._queue.put(job)
        return job

    def job(self, name: str) -> Job:
        """A job of this instance. 404 when it is not known (any more)."""
        found = self._jobs.get(name)
        if found is None:
            raise ServiceError(
                404,
                "NotFound",
                f"There is no job {name!r} here: jobs are forgotten at a restart.",
                param="job",
            )
        return found

    def jobs(self) -> list[dict[str, Any]]:
        """The last jobs, newest first."""
        return [job.body() for job in reversed(self._jobs.values())]

    def snapshot(self, progress: Progress) -> dict[str, Any]:
        """Makes a snapshot; for `start_job`."""
        core = self._core
        path, made = take(self.source(), core.settings.index_snapshots_kept, progress)
        self.newest, self._known = made, time.monotonic()
        core.place.report.wants_snapshot = False
        log.info("snapshot-made", snapshot=path.name, sequence=made.sequence, items=made.items)
        return {
            "snapshot": path.name,
            "sequence": made.sequence,
            "items": made.items,
            "generations": [one.key for one in made.generations],
            "bytes": sum(one.bytes for one in made.files.values()),
        }

    def verify(self, progress: Progress) -> dict[str, Any]:
        """Looks for damage and says what it finds; for `start_job`."""
        found = upkeep.verify(self._core, progress)
        report = self._core.place.report
        for finding in found["findings"]:
            if finding.startswith("snapshot "):
                report.wants_snapshot = True
                mends = (
                    "A start passes it over, and a new one is made; remove its folder when you have looked"
                )
            else:
                mends = "Restart the index: a start mends it"
            report.say("index-damaged", f"{finding}. {mends}.")
        return found

    def source(self) -> Source:
        """What snapshots and backups are made of."""
        core = self._core

        def sync() -> None:
            core.worker.call(_sync(core)).result(_SYNC_SECONDS)

        return Source(core.settings.index_dir, core.live, sync)

    @property
    def age(self) -> float:
        """Seconds since the newest snapshot; 0 when there is none."""
        return max(0.0, time.time() - self.newest.created) if self.newest else 0.0

    def facts(self) -> dict[str, Any]:
        """For the statistics."""
        newest = self.newest
        return {
            "snapshot": {
                "sequence": newest.sequence,
                "createdAt": newest.created_at,
                "ageSeconds": round(self.age, 1),
                "items": newest.items,
            }
            if newest
            else None,
            "failures": self.failures,
            "jobs": [
                {key: value for key, value in job.items() if key != "result"} for job in self.jobs()[:3]
            ],
        }

    def stop(self) -> None:
        """Ends the thread after the job it runs."""
        self._stopping = True
        self._queue.put(None)
        if self.is_alive():
            self.join()

    # -- the thread

    def run(self) -> None:
        """Serves jobs and makes snapshots by the clock until stopped."""
        if self._core.place.report.wants_verify:
            self.start_job("verify", self.verify)
        while not self._stopping:
            try:
                job = self._queue.get(timeout=_LOOK)
            except queue.Empty:
                if self._due():
                    self.start_job("snapshot", self.snapshot)
                continue
            if job is not None and not self._stopping:
                self._work(job)

    def _work(self, job: Job) -> None:
        began = time.monotonic()

        def progress(phase: str, done: int, of: int) -> None:
            job.phase, job.done, job.of, job.seconds = phase, done, of, time.monotonic() - began

        job.state = "running"
        try:
            job.result = job.run(progress)
            job.state = "done"
        except Exception as failure:
            # Whatever it was, the index serves on; the job says it.
            job.error, job.state = str(failure), "failed"
            self.failures += 1
            self._not_before = time.monotonic() + _PAUSE
            log.error("job-failed", kind=job.kind, reason=str(failure))
        job.seconds = time.monotonic() - began
        job.over.set_result(None)

    def _due(self) -> bool:
        """Whether something changed, and long enough ago or often enough."""
        core, settings = self._core, self._core.settings
        newest, now = self.newest, time.monotonic()
        last = newest.sequence if newest else 0
        if not core.is_writer or now < self._not_before:
            return False
        if core.place.report.wants_snapshot:
            return True
        if core.live.applied == last and not self._other_shapes():
            return False
        writes, seconds = settings.index_snapshot_writes, settings.index_snapshot_seconds
        # By the date, and where that was set back since, by how long it is known here.
        since = max(self.age, now - self._known)
        return bool((writes and core.live.applied - last >= writes) or (seconds and since >= seconds))

    def _other_shapes(self) -> bool:
        """Whether the newest snapshot's indexes are of other types: a start would train them again."""
        catalog, newest = self._core.live.catalog, self.newest
        if catalog is None or newest is None or newest.faiss is None:
            return False
        return bool(newest.faiss.parameters.get("namespaces") != shapes(catalog))


def _sync(core: Core) -> Callable[[], None]:
    def run() -> None:
        if core.live.journal is not None:
            core.live.journal.check()
            core.live.journal.sync()

    return run


def newest_manifest(core: Core) -> Manifest | None:
    """Of the newest snapshot whose manifest can be read."""
    for one in manifests.snapshots(core.settings.index_dir):
        try:
            return manifests.read_manifest(one)
        except manifests.SnapshotInvalid as invalid:
            log.warning("snapshot-invalid", reason=str(invalid))
    return None
