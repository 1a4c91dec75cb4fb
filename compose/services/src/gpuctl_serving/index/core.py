"""The index without HTTP: what a loaded instance consists of, and how work reaches its threads."""

import asyncio
import contextlib
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from gpuctl_serving.engines.threads import thread_count
from gpuctl_serving.index.ann.promotion import Promoter
from gpuctl_serving.index.ann.replica import device
from gpuctl_serving.index.ann.replica.keeper import ReplicaKeeper
from gpuctl_serving.index.ann.replica.told import Told, off
from gpuctl_serving.index.durable.log import AppendLog
from gpuctl_serving.index.durable.opening import Opened, open_follower, open_writer
from gpuctl_serving.index.durable.rebuild import can_rebuild
from gpuctl_serving.index.durable.recovery import Place, join
from gpuctl_serving.index.durable.report import Report
from gpuctl_serving.index.durable.saved import SavedIndexes
from gpuctl_serving.index.failures import Damaged
from gpuctl_serving.index.found_ids import FoundIds
from gpuctl_serving.index.live import Live, Work
from gpuctl_serving.index.lock import Holder, WriterLock
from gpuctl_serving.index.messages import Elsewhere, Write
from gpuctl_serving.index.reader import Readers
from gpuctl_serving.index.settings import IndexSettings
from gpuctl_serving.index.worker import Worker
from gpuctl_serving.kit.errors import LoadFailed, ServiceError, overloaded, past_deadline, unavailable
from gpuctl_serving.kit.logs import Log

if TYPE_CHECKING:
    from gpuctl_serving.index.maintenance import Maintenance

log = Log(__name__)
T = TypeVar("T")

#: Searches and other reads that may wait for a thread.
MAX_READS = 512


@dataclass
class Core:
    """Everything that exists once the index is loaded."""

    settings: IndexSettings
    live: Live
    worker: Worker
    readers: Readers
    threads: int
    pool: ThreadPoolExecutor
    promoter: Promoter
    replica: ReplicaKeeper | None
    #: Why there is no GPU's copy, where there is none.
    no_replica: Told
    place: Place
    found_ids: FoundIds
    #: Snapshots and other long work; none where only the core is wanted.
    maintenance: "Maintenance | None" = None
    _reading: int = 0

    @classmethod
    def open(cls, settings: IndexSettings, me: Holder, traffic_open: Callable[[], bool]) -> "Core":
        """Opens the database, as the writer when the lock is free, and loads it. Raises LoadFailed."""
        directory = settings.index_dir
        lock = _lock(directory, me)
        place = Place(directory, settings.log_policy, Report())
        with contextlib.ExitStack() as undo:
            undo.callback(lock.close)
            writer = lock.try_take()
            readers = Readers(directory)
            undo.callback(readers.close)
            live = _load(settings, place, readers, writer=writer)
            undo.pop_all()
        threads = thread_count(settings.threads)

        def open_journal() -> AppendLog:
            return join(place, live.store.connection, newest=2)

        worker = Worker(live, lock, traffic_open, open_journal)
        pool = ThreadPoolExecutor(threads, thread_name_prefix="index-reader")
        promoter = Promoter(lambda: live.catalog, settings.policy)
        lacking = device.available()
        if settings.require == "cpu":
            lacking = "GPUCTL_REQUIRE=cpu asks for the CPU"
        replica = _replica(settings, live, lacking)
        worker.start()
        promoter.start()
        if replica is not None:
            replica.start()
        log.info(
            "index-loaded",
            writer=writer,
            sequence=live.applied,
            generation=live.key,
            threads=threads,
            recovery=place.report.body(),
        )
        told = off(settings.device, lacking)
        return cls(settings, live, worker, readers, threads, pool, promoter, replica, told, place, FoundIds())

    @property
    def told(self) -> Told:
        """What the world is told of the GPU's copy."""
        return self.no_replica if self.replica is None else self.replica.told()

    @property
    def device(self) -> str:
        """Which device answers a search of the largest namespace now."""
        return self.told.searcher

    @property
    def is_writer(self) -> bool:
        """Whether writes are committed by this instance."""
        return self.worker.role in ("writer", "holding")

    async def read(self, work: Callable[[], T]) -> T:
        """Runs a search or another read in a thread. 429 when too many wait."""
        if self._reading >= MAX_READS:
            raise overloaded(f"{MAX_READS} searches are waiting already. Send fewer at once.", 1)
        self._reading += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self.pool, work)
        except sqlite3.Error as failure:
            raise unavailable(f"The index's database cannot be read: {failure}.", 5) from failure
        finally:
            self._reading -= 1

    async def write(self, write: Write) -> Any:
        """Hands a change to the writer's thread; its result, or Elsewhere."""
        outcome = asyncio.wrap_future(self.worker.write(write))
        try:
            async with asyncio.timeout(self.settings.deadline_ms / 1000):
                # Shielded: a client that leaves must not look like a write that failed.
                return await asyncio.shield(outcome)
        except TimeoutError:
            raise past_deadline(self.settings.deadline_ms) from None

    async def write_here(self, work: Work, deadline: float, *, internal: bool = False) -> Any:
        """A change only the writer may make for itself. 409 when this is not the writer."""
        result = await self.write(Write(work, deadline, internal=internal))
        if isinstance(result, Elsewhere):
            raise ServiceError(
                409,
                "NotWriter",
                f"This instance is not the writer. Ask {result.address or 'the one that is'}.",
            )
        return result

    async def close(self) -> None:
        """Finishes what is queued, gives the lock back, ends the threads."""
        await asyncio.get_running_loop().run_in_executor(None, self._close)

    def _close(self) -> None:
        if self.maintenance is not None:
            self.maintenance.stop()
        self.promoter.stop()
        if self.replica is not None:
            self.replica.stop()
        self.worker.stop()
        self.pool.shutdown(wait=True)
        self.readers.close()


def _load(settings: IndexSettings, place: Place, readers: Readers, *, writer: bool) -> Live:
    """Opens database and log and brings them into memory; damage seen only then is mended once."""

    def load(opened: Opened) -> Live:
        live = Live(
            opened.connection,
            settings.index_generation,
            settings.known_dimension,
            readers,
            opened.journal,
            SavedIndexes(place.directory, place.report),
        )
        try:
            live.load()
        except BaseException:
            if opened.journal is not None:
                opened.journal.close()
            opened.connection.close()
            raise
        return live

    if not writer:
        return load(open_follower(place))
    try:
        return load(open_writer(place))
    except Damaged as damage:
        if not can_rebuild(place.directory):
            raise
        return load(open_writer(place, damage.detail))


def _replica(settings: IndexSettings, live: Live, lacking: str | None) -> ReplicaKeeper | None:
    """The GPU's copy, where there may be a GPU and the settings do not ask for the CPU."""
    if settings.device not in ("auto", "cuda") or lacking is not None:
        return None
    return ReplicaKeeper(lambda: live.catalog, settings.index_dir, settings.replica_policy)


def _lock(directory: Path, me: Holder) -> WriterLock:
    try:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        return WriterLock(directory, me)
    except OSError as failure:
        raise LoadFailed(
            f"The index directory {directory} cannot be used: {failure.strerror or failure}. "
            "Check that GPUCTL_INDEX_DIR is a writable directory on a local disk."
        ) from failure
