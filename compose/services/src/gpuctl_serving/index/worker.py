"""The one thread that changes anything: it owns the database connection, the writer's lock and the role.

Roles: a *writer* holds the lock. A *follower* does not; it follows the log and tells where writes go.
A writer that hands over is *holding* (writes wait, the lock is kept) and then *released* (writes wait, the
lock is free) until somebody else holds the lock, or until its time is up and it takes the lock back: a lost
operator never leaves the index without a writer.
"""

import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Literal

from gpuctl_serving.index.durable.log import AppendLog
from gpuctl_serving.index.live import Live
from gpuctl_serving.index.lock import WriterLock
from gpuctl_serving.index.messages import Call, Elsewhere, Hold, Take, Write, milliseconds, not_writer, settle
from gpuctl_serving.kit.errors import ServiceError, overloaded, unavailable
from gpuctl_serving.kit.logs import Log

log = Log(__name__)

Role = Literal["writer", "holding", "released", "follower"]

#: How often a follower looks for commits of the writer, seconds.
_FOLLOW = 0.03
#: How often a release or a takeover looks at the lock.
_HANDOVER = 0.002
_IDLE = 0.5
#: How often the log's interval is looked at while something waits for it.
_SYNC = 0.01
_GROUP = 64
#: Between rounds that fail, seconds.
_LONGEST_PAUSE = 1.0
MAX_WAITING = 1024


class Worker(threading.Thread):
    """See the module. Every method but `run` may be called from any thread."""

    def __init__(
        self,
        live: Live,
        lock: WriterLock,
        traffic_open: Callable[[], bool],
        open_journal: Callable[[], AppendLog],
    ) -> None:
        super().__init__(name="index-writer", daemon=True)
        self.live = live
        self.lock = lock
        self._traffic_open = traffic_open
        self._open_journal = open_journal
        self._inbox: queue.SimpleQueue[Write | Call | None] = queue.SimpleQueue()
        self._waiting: deque[Write] = deque()
        self._hold: Hold | None = None
        self._take: Take | None = None
        self._successor = ""
        self._stopping = False
        self.role: Role = "writer" if lock.held else "follower"

    # -- asked from other threads

    def write(self, write: Write) -> Future[Any]:
        """Commits the change; the result is the work's, or Elsewhere."""
        if self._inbox.qsize() + len(self._waiting) >= MAX_WAITING:
            raise overloaded(f"{MAX_WAITING} writes are waiting already. Send fewer at once.", 1)
        self._inbox.put(write)
        return write.outcome

    def hold(self, hold_ms: int, successor: str) -> Future[int]:
        """Begins to hold writes once the running ones are done; the token for `release`."""
        return self._call(lambda: self._begin_hold(hold_ms, successor))

    def release(self, token: int) -> Future[dict[str, int]]:
        """Gives the lock back; writes are held until a successor has it or the hold's time is up."""
        return self._call(lambda: self._release(token))

    def resume(self, token: int) -> Future[None]:
        """Ends a hold that will not be released."""
        return self._call(lambda: self._resume(token))

    def take(self, deadline_ms: int) -> Future[dict[str, int]]:
        """Becomes the writer as soon as the lock is free."""
        now = time.monotonic()
        take = Take(now, now + deadline_ms / 1000)
        self._inbox.put(Call(lambda: self._begin_take(take)))
        return take.outcome

    def call(self, run: Callable[[], Any]) -> Future[Any]:
        """Runs something in the thread, between two commits."""
        return self._call(run)

    def stop(self) -> None:
        """Ends the thread after what is queued; gives the lock back."""
        self._inbox.put(None)
        if self.is_alive():
            self.join()

    def _call(self, run: Callable[[], Any]) -> Future[Any]:
        call = Call(run)
        self._inbox.put(call)
        return call.outcome

    # -- the thread

    def run(self) -> None:
        """Serves the inbox and looks after the role until stopped."""
        failures = 0
        while not self._stopping:
            try:
                self._serve(self._next(self._patience()))
                if self.live.journal is not None and not self.live.journal.broken:
                    self.live.journal.sync_if_due()
                self._look_after_role()
                failures = 0
            except Exception as failure:
                # Whatever it was, the next round may pass; without this thread nothing would ever again.
                log.error("index-round-failed", reason=str(failure))
                failures += 1
                time.sleep(min(_LONGEST_PAUSE, _FOLLOW * 2**failures))
        for write in self._waiting:
            write.outcome.set_exception(unavailable("The index is stopping. Send it again."))
        self._close_journal()
        self.lock.close()
        self.live.store.connection.close()

    def _patience(self) -> float:
        if self._take is not None or self.role in ("holding", "released"):
            return _HANDOVER
        if self.live.journal is not None and self.live.journal.waits_for_sync:
            return _SYNC
        return _FOLLOW if self.role == "follower" else _IDLE

    def _next(self, patience: float) -> list[Write | Call | None]:
        batch: list[Write | Call | None] = []
        try:
            batch.append(self._inbox.get(timeout=patience))
            while len(batch) < _GROUP:
                batch.append(self._inbox.get_nowait())
        except queue.Empty:
            pass
        return batch

    def _serve(self, batch: list[Write | Call | None]) -> None:
        group: list[Write] = []
        for one in batch:
            if isinstance(one, Write):
                group.append(one)
                continue
            self._admit(group)
            group = []
            if one is None:
                self._stopping = True
            else:
                settle(one)
        self._admit(group)

    def _admit(self, group: list[Write]) -> None:
        """Commits, keeps waiting or sends elsewhere, by role."""
        if group and self.role == "follower" and not self._take:
            try:
                self._promote_if_free()
            except Exception as failure:
                # These writes are still answered; the next round tries again.
                log.error("promotion-failed", reason=str(failure))
        now = []
        for write in group:
            if self.role == "writer" or (self.role == "holding" and write.internal):
                now.append(write)
            elif self.role in ("holding", "released") or (write.forwarded and not write.internal):
                self._waiting.append(write)
            else:
                write.outcome.set_result(self.elsewhere())
        self._commit(now)

    def _commit(self, writes: list[Write]) -> None:
        if writes:
            self.live.commit([(write.work, write.outcome) for write in writes])

    def elsewhere(self) -> Elsewhere:
        """Where writes go while this instance is a follower."""
        holder = self.lock.holder()
        return Elsewhere(holder.address if holder and holder.address else self._successor)

    def _look_after_role(self) -> None:
        now = time.monotonic()
        if self.role == "writer":
            # Nothing to do, unless a commit's copy into memory failed.
            self.live.catch_up()
            return
        if self.role == "holding":
            if self._hold is None or now > self._hold.deadline:
                self._become_writer("nobody released the hold in time")
        elif self.role == "released":
            self._watch_successor(now)
        else:
            self._follow(now)
        self._expire(now)

    def _follow(self, now: float) -> None:
        if self._take is not None:
            self._try_take(self._take, now)
        elif self.role == "follower":
            self._promote_if_free()
        if self.role == "follower" and self.live.changed_elsewhere():
            self.live.catch_up()

    def _promote_if_free(self) -> None:
        # Only an instance that serves may promote itself: a candidate or a paused predecessor must not
        # snatch the lock in the moment between a release and a takeover.
        if self._traffic_open() and self.lock.try_take():
            self._become_writer("the writer is gone")

    def _watch_successor(self, now: float) -> None:
        hold = self._hold
        if hold is not None and now <= hold.deadline:
            if self.lock.holder() is None:
                return
        elif self.lock.try_take():
            self._become_writer("no successor took the lock in time")
            return
        self._hold = None
        self.role = "follower"
        log.info("index-handed-over", successor=self.elsewhere().address)
        while self._waiting:
            self._waiting.popleft().outcome.set_result(self.elsewhere())

    def _become_writer(self, why: str) -> None:
        try:
            if self.live.journal is None:
                self.live.journal = self._open_journal()
            self.live.catch_up()
        except Exception:
            if self.role in ("follower", "released"):
                self._close_journal()
                self.lock.release()
            raise
        self._hold, self._successor, self.role = None, "", "writer"
        log.info("index-writer", why=why, sequence=self.live.applied)
        held, self._waiting = list(self._waiting), deque()
        self._commit(held)

    def _expire(self, now: float) -> None:
        for write in [write for write in self._waiting if now > write.deadline]:
            self._waiting.remove(write)
            write.outcome.set_exception(
                unavailable("No instance became the writer in time. Nothing was stored; send it again.")
            )

    def _close_journal(self) -> None:
        journal, self.live.journal = self.live.journal, None
        if journal is not None:
            journal.close()

    # -- handover

    def _begin_hold(self, hold_ms: int, successor: str) -> int:
        if self.role != "writer":
            raise not_writer(self.elsewhere().address if self.role == "follower" else "a handover is running")
        now = time.monotonic()
        token = time.monotonic_ns()
        self._hold = Hold(token, now, now + hold_ms / 1000, successor)
        self._successor, self.role = successor, "holding"
        return token

    def _release(self, token: int) -> dict[str, int]:
        hold = self._check(token)
        answer = {"sequence": self.live.applied, "heldMs": milliseconds(time.monotonic() - hold.began)}
        # Before the lock is free: the successor reads the log to its end and appends to it.
        self._close_journal()
        self.lock.release()
        self.role = "released"
        return answer

    def _resume(self, token: int) -> None:
        if self._hold is not None and self._hold.token == token and self.role == "holding":
            self._become_writer("the handover was given up")

    def _check(self, token: int) -> Hold:
        hold = self._hold
        if hold is None or hold.token != token or self.role != "holding" or time.monotonic() > hold.deadline:
            raise ServiceError(
                409,
                "HoldExpired",
                "The hold's time was up before it could be released; this instance writes on. "
                "Bring the generation up to date first, then hold again.",
            )
        return hold

    def _begin_take(self, take: Take) -> None:
        if self.role == "writer":
            take.outcome.set_result({"sequence": self.live.applied, "waitedMs": 0})
        elif self.role != "follower" or self._take is not None:
            take.outcome.set_exception(not_writer("a handover is running"))
        else:
            self._take = take

    def _try_take(self, take: Take, now: float) -> None:
        # Following while waiting leaves nothing to drain when the lock comes free.
        if self.lock.try_take():
            self._take = None
            try:
                self._become_writer("the predecessor released the lock")
            except Exception as failure:
                take.outcome.set_exception(unavailable(f"The log could not be drained: {failure}."))
                raise
            take.outcome.set_result(
                {"sequence": self.live.applied, "waitedMs": milliseconds(time.monotonic() - take.began)}
            )
        elif now > take.deadline:
            self._take = None
            holder = self.lock.holder()
            take.outcome.set_exception(not_writer(holder.instance if holder else "another process"))
